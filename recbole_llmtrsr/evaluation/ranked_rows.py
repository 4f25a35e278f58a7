"""Which history each ranked row is, and what is known of its target: the left part of the per-history table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.catalogue_text import item_file, read_catalogue
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError


@dataclass(frozen=True)
class RankedRows:
    """The rows that an evaluation ranks, in the loader's order.

    Attributes:
        users: user tokens. [n_rows]
        n_events: events before the target. [n_rows]
        targets: item ids. [n_rows]
        target_tokens: their tokens. [n_rows]
        history_ids: of the rows. [n_rows]
    """

    users: list[str]
    n_events: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    target_tokens: list[str]
    history_ids: npt.NDArray[np.int64]


def ranked_rows(loader: Any) -> RankedRows:
    """The rows of a loader.

    RecBole's full ranking for models that are not sequential ranks users, not histories: a user's row is then the one
    of the first of its targets.
    """
    dataset = loader._dataset
    rows = dataset.inter_feat
    users, targets, ids = (rows[field].numpy() for field in (dataset.uid_field, dataset.iid_field, HISTORY_ID))
    if hasattr(loader, "uid_list"):
        order = np.argsort(ids, kind="stable")
        _, first = np.unique(users[order], return_index=True)
        by_user = {int(users[i]): i for i in order[first]}
        chosen = np.array([by_user[int(user)] for user in loader.uid_list], dtype=np.int64)
        users, targets, ids = users[chosen], targets[chosen], ids[chosen]
    past = dataset.histories
    return RankedRows(
        [str(dataset.field2id_token[dataset.uid_field][user]) for user in users],
        past.end[ids] - past.begin[ids],
        targets,
        [str(dataset.field2id_token[dataset.iid_field][item]) for item in targets],
        ids,
    )


def target_words(config: Any, dataset: Any, tokens: Sequence[str]) -> list[int] | None:
    """Words in the text of every target, for models that read texts and models that do not; None without texts."""
    text: ItemText | None = getattr(dataset, "item_text", None)
    if text is None and item_file(config).is_file():
        try:
            text = read_catalogue(config)
        except UserError:  # a fault for models that read texts alone
            return None
    if text is None:
        return None
    return [sum(len(value.split()) for _, value in text[token].fields) for token in tokens]
