"""Full ranking, with one rule for all models on whether items of the user's history are ranked."""

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

MOST_SCORES = 2**24  # per batch: 64 MiB in fp32


def excludes_seen(config: Config) -> bool:
    """Whether full ranking excludes the items of the history; RecBole's rule if ``exclude_seen`` is auto."""
    rule = config.settings.evaluation.exclude_seen
    return bool(rule == "yes" or (rule == "auto" and config["MODEL_TYPE"] != ModelType.SEQUENTIAL))


class FullRankingLoader(FullSortEvalDataLoader):  # type: ignore[misc]
    """RecBole's loader for full ranking, which has the same rows for all models if ``exclude_seen`` is yes or no.

    Each target is then a row, and the rule decides whether the items of its history are excluded; the target is always
    ranked, even if the user chose it before. For models that are not sequential, RecBole has one row per user, and
    excludes the items that its sampler lists.
    """

    step: int

    def __init__(self, config: Config, dataset: Dataset, sampler: AbstractSampler) -> None:
        self._left_out: bool | None = None  # None follows RecBole
        if config.settings.evaluation.exclude_seen == "auto":
            super().__init__(config, dataset, sampler, shuffle=False)
            return
        self._left_out = excludes_seen(config)
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.is_sequential = True  # a row for each target
        self.sample_size = len(dataset)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)
        self.is_sequential = True  # the constructor sets it by the type of the model

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        step = max(1, MOST_SCORES // self._dataset.item_num)
        if self.is_sequential and self.step > step:
            self.step = step
            self.set_batch_size(step)

    def collate_fn(self, index: Sequence[int]) -> tuple[Any, ...]:
        """Rows, (row, item) pairs to exclude or None, and (row, item) of the targets."""
        rows, left_out, target_rows, targets = super().collate_fn(index)
        if self._left_out:
            left_out = history_places(self._dataset.histories, rows[HISTORY_ID].tolist(), targets)
        return rows, left_out, target_rows, targets


def history_places(
    histories: Histories, history_ids: list[int], targets: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and item of all items in these histories, except the rows' targets.

    Args:
        histories: histories of all rows.
        history_ids: history ids of the rows. [B]
        targets: item of every row that is not returned. [B]
    """
    items = [np.setdiff1d(histories[i], [] if targets is None else targets[row]) for row, i in enumerate(history_ids)]
    rows = np.repeat(np.arange(len(items)), [len(of_row) for of_row in items])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(items).astype(np.int64))
