"""Full ranking, with one rule for all models on whether items that the user already chose are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.sampler.sampler import AbstractSampler
from recbole.utils import ModelType

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.histories import HISTORY_ID, Histories

MOST_SCORES = 2**24  # of a batch: 64 MiB in fp32, before ranking


def excludes_seen(config: Config) -> bool:
    """Whether full ranking leaves out the items of the history; RecBole's rule where ``exclude_seen`` is auto."""
    rule = config.settings.evaluation.exclude_seen
    return bool(rule == "yes" or (rule == "auto" and config["MODEL_TYPE"] != ModelType.SEQUENTIAL))


class FullRankingLoader(FullSortEvalDataLoader):  # type: ignore[misc]
    """RecBole's loader of full ranking; where ``exclude_seen`` is yes or no, the same rows for all models.

    Then each target is a row, and the rule decides whether items of its history are left out; the target is always
    ranked, even if the user chose it before. For models that are not sequential, RecBole has one row per user, and
    leaves out what its sampler lists.
    """

    step: int

    def __init__(self, config: Config, dataset: Dataset, sampler: AbstractSampler) -> None:
        self._left_out: bool | None = None  # as RecBole does it
        if config.settings.evaluation.exclude_seen == "auto":
            super().__init__(config, dataset, sampler, shuffle=False)
            return
        self._left_out = excludes_seen(config)
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.is_sequential = True  # a row for each target
        self.sample_size = len(dataset)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)
        self.is_sequential = True  # that sets it by the kind of model

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        step = max(1, MOST_SCORES // self._dataset.item_num)
        if self.is_sequential and self.step > step:
            self.step = step
            self.set_batch_size(step)

    def collate_fn(self, index: Sequence[int]) -> tuple[Any, ...]:
        """Rows, (row, item) pairs to leave out or None, and (row, item) of the targets."""
        rows, left_out, target_rows, targets = super().collate_fn(index)
        if self._left_out:
            left_out = history_places(self._dataset.histories, rows[HISTORY_ID].tolist(), targets)
        return rows, left_out, target_rows, targets


def history_places(
    histories: Histories, history_ids: list[int], targets: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and item of everything in these histories except the rows' targets.

    Args:
        histories: of all rows.
        history_ids: of the rows. [B]
        targets: item of every row, which stays. [B]
    """
    items = [np.setdiff1d(histories[i], [] if targets is None else targets[row]) for row, i in enumerate(history_ids)]
    rows = np.repeat(np.arange(len(items)), [len(own) for own in items])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(items).astype(np.int64))
