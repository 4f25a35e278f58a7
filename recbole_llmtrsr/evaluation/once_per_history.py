"""RecBole's sequential models among sampled candidates: a history is read once, not once for each of its candidates.

RecBole asks them row by row, so 21 candidates cost 21 passes over one history. `full_sort_predict` reads it once and
has the scores of all items, of which the candidates' are taken. Both are the same products of the same vectors, summed
in another order; whether that is so is looked at before a model is scored by it.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor

from recbole_llmtrsr.data.histories import HISTORY_ID

TOLERANCE = 1e-5  # relative to the largest score


def score_once_per_history(model: Any) -> None:
    """Let a model's `predict` read each history once, if it is of RecBole's sequential kind: others read none."""
    if isinstance(model, SequentialRecommender):
        model.predict = OncePerHistory(model.predict, model.full_sort_predict, model.ITEM_ID)


class OncePerHistory:
    """`predict` by way of `full_sort_predict`, where both give the same.

    Args:
        by_row: scores of rows, each a history and an item.
        by_history: scores of all items for each row's history.
        item_field: where rows have their items.
    """

    def __init__(
        self, by_row: Callable[[Interaction], Tensor], by_history: Callable[[Interaction], Tensor], item_field: str
    ) -> None:
        self._by_row, self._by_history, self._item_field = by_row, by_history, item_field
        self._is_same: bool | None = None  # not looked at yet

    @torch.no_grad()
    def __call__(self, interaction: Interaction) -> Tensor:
        """fp32 scores of rows. [n_rows]"""
        if self._is_same is None:
            self._is_same = self._looked_at(interaction)
        return self._of_histories(interaction) if self._is_same else self._by_row(interaction)

    def _of_histories(self, interaction: Interaction) -> Tensor:
        ids = interaction[HISTORY_ID].cpu().numpy()
        _, first, row = np.unique(ids, return_index=True, return_inverse=True)
        scores = self._by_history(interaction[torch.from_numpy(first)]).view(len(first), -1)
        return scores[torch.from_numpy(row).to(scores.device), interaction[self._item_field]]

    def _looked_at(self, interaction: Interaction) -> bool:
        """Whether both ways score these rows alike."""
        expected = self._by_row(interaction)
        try:
            found = self._of_histories(interaction)
        except (NotImplementedError, RuntimeError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            difference = float((found - expected).abs().max())
            if difference <= TOLERANCE * float(expected.abs().max()):
                return True
            reason = f"their scores differ by {difference:.2g}"
        getLogger().warning(f"candidates are scored row by row, since all items at once would not do: {reason}")
        return False
