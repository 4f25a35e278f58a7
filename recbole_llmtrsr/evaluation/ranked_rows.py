"""The history and the targets of each ranked row, the first columns of the per-history table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.catalogue_text import item_file, read_catalogue
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError


@dataclass(frozen=True)
class RankedRows:
    """The rows that an evaluation ranks, in the order of the loader.

    Attributes:
        users: user tokens. [n_rows]
        n_events: number of events before the target. [n_rows]
        target_tokens: item token of the first target. [n_rows]
        history_ids: ids of the histories. [n_rows]
        targets: item ids of all targets, row by row. [n_targets]
        begins: index in ``targets`` of the first target of each row. [n_rows]
    """

    users: list[str]
    n_events: npt.NDArray[np.int64]
    target_tokens: list[str]
    history_ids: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]

    def largest(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the maximum over the targets of each row. [n_targets] -> [n_rows]"""
        of_targets = np.asarray(values, dtype=np.int64)
        return np.maximum.reduceat(of_targets, self.begins) if len(self.begins) else of_targets


def ranked_rows(loader: AbstractDataLoader) -> RankedRows:
    """Return the rows that a loader ranks.

    For models that are not sequential, RecBole's full ranking ranks users and not histories; each row then describes
    the first target of a user. A list of candidates can also have several targets, such as an impression with several
    clicks.
    """
    dataset = loader._dataset
    rows = dataset.inter_feat
    users, items, ids = (rows[field].numpy() for field in (dataset.uid_field, dataset.iid_field, HISTORY_ID))
    if hasattr(loader, "uid_list"):
        place = {int(user): i for i, user in enumerate(loader.uid_list)}
        of_users = np.array([place[user] for user in users.tolist()], dtype=np.int64)
        order = np.lexsort((ids, of_users))
        targets, (_, begins) = items[order], np.unique(of_users[order], return_index=True)
        users, items, ids = (values[order[begins]] for values in (users, items, ids))
    elif hasattr(loader, "candidates"):
        lists = [found[is_positive] for found, is_positive in map(loader.candidates.__getitem__, ids.tolist())]
        targets = np.concatenate([items[:0], *lists])
        begins = np.cumsum([0, *map(len, lists)], dtype=np.int64)[:-1]
    else:
        targets, begins = items, np.arange(len(items))
    past = dataset.histories
    return RankedRows(
        [str(dataset.field2id_token[dataset.uid_field][user]) for user in users],
        past.end[ids] - past.begin[ids],
        _tokens(dataset, items),
        ids,
        targets,
        begins,
    )


def target_words(config: Config, dataset: Dataset, targets: npt.NDArray[np.int64]) -> list[int] | None:
    """Count the words in the text of each target, even if the model reads no texts; None if there are no texts."""
    text: ItemText | None = getattr(dataset, "item_text", None)
    if text is None and item_file(config).is_file():
        try:
            text = read_catalogue(config)
        except UserError:  # an error only for models that read texts
            return None
    if text is None:
        return None
    items, places = np.unique(targets, return_inverse=True)
    words = [sum(len(value.split()) for _, value in text[token].fields) for token in _tokens(dataset, items)]
    return [words[place] for place in places.tolist()]


def _tokens(dataset: Dataset, items: npt.NDArray[np.int64]) -> list[str]:
    return [str(token) for token in dataset.field2id_token[dataset.iid_field][items]]
