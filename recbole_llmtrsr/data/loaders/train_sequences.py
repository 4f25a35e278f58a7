"""Training on sequences: consecutive training targets of a user, each predicted from the events before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.train_targets import rows_in_a_row

TARGETS = "target_list"


class SequenceTrainDataLoader(AbstractDataLoader):  # type: ignore[misc]
    """Batches of rows with ``targets_per_prompt`` consecutive targets each (`TARGETS`, [B, n], padded with 0).

    A row is RecBole's row of the first target, with its history. Events that are held out between two training targets,
    as in random splits, are in no row. The model draws the negatives.

    Args:
        config: our Config; ``train_batch_size`` counts ``targets_per_prompt`` for each row, even if it has fewer.
        dataset: training rows.

    Attributes:
        n_targets: number of targets in all rows.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        feat = dataset.inter_feat
        users, ids, items = (feat[name].numpy() for name in (dataset.uid_field, HISTORY_ID, dataset.iid_field))
        self._n = config.settings.training.targets_per_prompt
        rows = rows_in_a_row(users, ids, self._n)
        self._targets = np.where(rows < 0, 0, items[rows])
        self.n_targets, self.sample_size = len(feat), len(rows)
        super().__init__(config, dataset.copy(feat[rows[:, 0]]), None, shuffle=config["shuffle"])

    def _init_batch_size_and_step(self) -> None:
        self.step = max(1, self.config["train_batch_size"] // self._n)
        self.set_batch_size(self.step)

    def collate_fn(self, index: Sequence[int]) -> Interaction:
        """Rows with their targets. [n_rows]"""
        rows = self.transform(self._dataset, self._dataset[np.array(index)])
        rows.update(Interaction({TARGETS: torch.from_numpy(self._targets[np.array(index)])}))
        return rows
