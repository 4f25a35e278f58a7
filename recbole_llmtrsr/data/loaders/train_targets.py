"""Training on targets: several consecutive targets of a user share one prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from recbole.data.dataloader.general_dataloader import TrainDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction, cat_interactions
from recbole.sampler.sampler import AbstractSampler

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.hard_negatives import RetrievedNegatives, without_later_targets
from recbole_llmtrsr.data.tokens import Ids


class TargetTrainDataLoader(TrainDataLoader):  # type: ignore[misc]
    """Batches of labelled rows: a target and its negatives, as in RecBole, and further targets that share its prompt.

    ``targets_per_prompt`` consecutive targets share the prompt of the first, so that its prefix is computed once. Every
    target is scored once per epoch, as in RecBole, except repeated items within a prompt. A negative that is a target
    of the same prompt is dropped.

    Attributes:
        n_targets: number of targets in all prompts.

    Deviation:
        RecBole and the paper score one target per prompt. Here the prompt of the further targets does not contain the
        targets before them. ``train_batch_size`` counts one target and its negatives per prompt.
    """

    def __init__(self, config: Config, dataset: Dataset, sampler: AbstractSampler, shuffle: bool = False) -> None:
        feat = dataset.inter_feat
        self._rows = users, ids, items = tuple(
            feat[name].numpy() for name in (dataset.uid_field, HISTORY_ID, dataset.iid_field)
        )
        self.n_targets, self._items, self._labels = len(feat), items, None
        self._retrieved: RetrievedNegatives | None = None
        if (
            config["train_neg_sample_args"]["distribution"] == "none"
        ):  # otherwise RecBole labels targets 1 and negatives 0
            self._labels = feat[config["LABEL_FIELD"]]
        self._first, self._further = grouped(users, ids, items, config.settings.training.targets_per_prompt)
        super().__init__(config, dataset.copy(feat[self._first]), sampler, shuffle=shuffle)

    @property
    def prompted(self) -> Dataset:
        """Rows of the first targets, from whose histories the prompts are made."""
        return self._dataset

    def set_retrieved(self, top: Ids, share: float) -> None:
        """Replace a share of the negatives by items retrieved for the `prompted` rows. [n_prompts, k]"""
        allowed = without_later_targets(top, self._first, *self._rows)
        self._retrieved = RetrievedNegatives(self._rows[1][self._first], allowed, share)

    def collate_fn(self, index: Sequence[int]) -> Interaction:
        """Labelled rows: all first targets, then all negatives, then all further targets. [n_rows]"""
        rows = super().collate_fn(index)
        positions = self._further[np.array(index)]  # [n, most]
        further = np.where(positions < 0, 0, self._items[positions])
        items, n = rows[self.iid_field].numpy(), len(further)
        prompt = np.arange(len(items)) % n
        is_further = (items[:, None] == further[prompt]).any(1)
        rows = rows[torch.from_numpy(~is_further)]  # the first n, the targets, differ from their further ones
        places, slots = np.nonzero(further)
        if not len(places):
            return rows
        added = rows[torch.from_numpy(places)]
        added[self.iid_field] = torch.from_numpy(further[places, slots])
        if self._labels is not None:
            added[self.config["LABEL_FIELD"]] = self._labels[torch.from_numpy(positions[places, slots])]
        return cat_interactions([rows, self._dataset.join(added)])

    def _neg_sample_by_point_wise_sampling(self, inter_feat: Interaction, neg_item_ids: torch.Tensor) -> Interaction:
        if self._retrieved is not None:
            negatives = neg_item_ids.numpy().reshape(-1, len(inter_feat))  # RecBole orders them by slot, then by row
            replaced = self._retrieved.in_place_of(negatives, inter_feat[HISTORY_ID].numpy())
            neg_item_ids = torch.from_numpy(replaced.ravel())
        return super()._neg_sample_by_point_wise_sampling(inter_feat, neg_item_ids)


def grouped(users: Ids, history_ids: Ids, items: Ids, n: int) -> tuple[Ids, Ids]:
    """Group n consecutive rows (`rows_in_a_row`), without rows that repeat an item of their group.

    Returns:
        The first row of every group, in the order of the rows [n_groups], and the other rows of the group, padded with
        -1 [n_groups, n - 1].

    >>> first, further = grouped(np.array([1, 2, 1, 1]), np.array([5, 8, 6, 7]), np.array([30, 40, 31, 32]), 2)
    >>> first.tolist(), further.tolist()
    ([0, 1, 2], [[-1], [-1], [3]])
    """
    rows = rows_in_a_row(users, history_ids, n)
    for slot in range(1, n):
        again = (items[rows[:, :slot]] == items[rows[:, slot, None]]) & (rows[:, :slot] >= 0)
        rows[again.any(1), slot] = -1
    return rows[:, 0], rows[:, 1:]


def rows_in_a_row(users: Ids, history_ids: Ids, n: int) -> Ids:
    """Group n consecutive rows of a user, from the latest backwards, so that only the earliest group may be smaller.

    Args:
        users: user of every row. [n_rows]
        history_ids: history ids, in the order of a user's events. [n_rows]
        n: number of rows per group.

    Returns:
        Rows of every group, in the order of their first rows, padded with -1. [n_groups, n]
    """
    order = np.lexsort((history_ids, users))
    by_user = pd.Series(order).groupby(users[order])
    is_first = ((by_user.cumcount(ascending=False) % n == n - 1) | (by_user.cumcount() == 0)).to_numpy()
    first = np.flatnonzero(is_first)
    group = np.cumsum(is_first) - 1
    rows = np.full((len(first), n), -1)
    rows[group, np.arange(len(order)) - first[group]] = order
    return rows[np.argsort(rows[:, 0])]
