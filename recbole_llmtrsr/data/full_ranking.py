"""Full ranking under one rule for all models: whether what a user already chose is ranked too."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.utils import ModelType

from recbole_llmtrsr.data.histories import HISTORY_ID


def ranks_history(config: Any) -> bool:
    """Whether items of the history are candidates in full ranking; RecBole's rule where ``rank_history`` is auto."""
    rule = config.settings.evaluation.rank_history
    return rule == "yes" or (rule == "auto" and config["MODEL_TYPE"] == ModelType.SEQUENTIAL)


class FullRankingLoader(FullSortEvalDataLoader):  # type: ignore[misc]
    """RecBole's loader of full ranking, which leaves out the history, or does not, as ``rank_history`` says.

    A target is ranked in any case, also one that the user chose before.

    Args:
        config: our Config.
        dataset: the built data set of one split.
        sampler: knows what users of models that are not sequential chose.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any) -> None:
        self._ranks_history = ranks_history(config)
        super().__init__(config, dataset, sampler, shuffle=False)

    def collate_fn(self, index: Any) -> Any:
        """Rows, (row, item) of what is left out or None, and (row, item) of the targets."""
        rows, left_out, target_rows, targets = super().collate_fn(index)
        if self._ranks_history:
            return rows, None, target_rows, targets
        if self.is_sequential:
            left_out = history_places(self._dataset.histories, rows[HISTORY_ID].tolist(), targets)
        return rows, left_out, target_rows, targets


def history_places(
    histories: Any, history_ids: list[int], targets: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and item of everything in these histories, but the rows' targets.

    Args:
        histories: of all rows.
        history_ids: of the rows. [B]
        targets: item of every row, which stays. [B]
    """
    items = [np.setdiff1d(histories[i], [] if targets is None else targets[row]) for row, i in enumerate(history_ids)]
    rows = np.repeat(np.arange(len(items)), [len(own) for own in items])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(items).astype(np.int64))
