"""Training on targets: prompts that are asked about several targets of their user at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.dataloader.general_dataloader import TrainDataLoader
from recbole.data.interaction import Interaction, cat_interactions

from recbole_llmtrsr.data.histories import HISTORY_ID

Ids = npt.NDArray[np.int64]


class TargetTrainDataLoader(TrainDataLoader):  # type: ignore[misc]
    """Batches of labelled rows: RecBole's, a target and its negatives, and further targets of the same history.

    These are the targets that follow in training, so the prefix, which costs most, is read once for all. A negative
    that is one of them is left out.

    Args:
        config: our Config.
        dataset: training rows.
        sampler: of negatives.
        shuffle: another order in every epoch.

    Deviation:
        RecBole and the paper ask about the next target alone. ``train_batch_size`` counts neither the further targets
        nor the negatives left out.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
        feat = dataset.inter_feat
        users, ids, items = (feat[name].numpy() for name in (dataset.uid_field, HISTORY_ID, dataset.iid_field))
        self._following = following(users, ids, items, config.settings.training.targets_per_prompt - 1)
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    def collate_fn(self, index: Any) -> Interaction:
        """Labelled rows: all targets, then all negatives, then all further targets. [n_rows]"""
        rows = super().collate_fn(index)
        following = self._following[np.array(index)]  # [n, most]
        items, n = rows[self.iid_field].numpy(), len(following)
        history = np.arange(len(items)) % n
        is_further = (items[:, None] == following[history]).any(1)
        rows = rows[torch.from_numpy(~is_further | (history == np.arange(len(items))))]
        places, slots = np.nonzero(following)
        if not len(places):
            return rows
        further = rows[torch.from_numpy(places)]
        further[self.iid_field] = torch.from_numpy(following[places, slots])
        return cat_interactions([rows, self._dataset.join(further)])


def following(users: Ids, history_ids: Ids, items: Ids, most: int) -> Ids:
    """The next targets of a row's user that differ from the row's own and from each other; 0 where there are no more.

    Args:
        users: user of every row. [n_rows]
        history_ids: in the order of a user's events. [n_rows]
        items: target of every row. [n_rows]
        most: how many to look ahead.

    Returns:
        item ids. [n_rows, most]

    >>> following(np.array([1, 2, 1, 1]), np.array([5, 8, 6, 7]), np.array([30, 40, 31, 32]), 2).tolist()
    [[31, 32], [0, 0], [32, 0], [0, 0]]
    """
    order = np.lexsort((history_ids, users))
    own, found = items[order], np.zeros((len(order), most), dtype=np.int64)
    for step in range(1, most + 1):
        same = users[order[step:]] == users[order[:-step]]
        later = np.where(same, own[step:], 0)
        known = np.column_stack([own[:-step], found[:-step, : step - 1]])
        found[: len(later), step - 1] = np.where((known == later[:, None]).any(1), 0, later)
    result = np.empty_like(found)
    result[order] = found
    return result
