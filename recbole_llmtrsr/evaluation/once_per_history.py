"""RecBole's sequential models among sampled candidates: a history is read once, not once for each of its candidates.

RecBole asks them row by row, so 21 candidates cost 21 passes over one history. `full_sort_predict` reads it once and
has the scores of all items, of which the candidates' are taken. In most models both are the same products of the same
vectors, summed in another order. Some differ (SHAN reads other columns), so one row of every history is scored both
ways, and a model whose scores differ is asked row by row from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender, SequentialRecommender
from torch import Tensor

from recbole_llmtrsr.data.histories import HISTORY_ID

TOLERANCE = 1e-4  # relative to the largest score of the two
MOST_SCORES = 2**22  # of all items at once: some models make a vector for each
FEWEST_HISTORIES = 16  # at once: with fewer, more passes would be made and not fewer


def score_once_per_history(model: Any) -> None:
    """Let a model's `predict` read each history once, if it is sequential and scores all items at once."""
    if not isinstance(model, SequentialRecommender):
        return
    at_once = MOST_SCORES // model.n_items
    if type(model).full_sort_predict is not AbstractRecommender.full_sort_predict and at_once >= FEWEST_HISTORIES:
        model.predict = OncePerHistory(model.predict, model.full_sort_predict, model.ITEM_ID, at_once)


class OncePerHistory:
    """`predict` by way of `full_sort_predict`, as long as both give the same.

    Args:
        by_row: scores of rows, each a history and an item.
        by_history: scores of all items for each row's history.
        item_field: where rows have their items.
        at_once: histories that `by_history` is given.
    """

    def __init__(
        self,
        by_row: Callable[[Interaction], Tensor],
        by_history: Callable[[Interaction], Tensor],
        item_field: str,
        at_once: int,
    ) -> None:
        self._by_row, self._by_history = by_row, by_history
        self._item_field, self._at_once = item_field, at_once
        self._is_same = True  # as far as was seen

    def state(self) -> dict[str, Any]:
        """What was seen, for a run that goes on."""
        return {"is_same": self._is_same}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._is_same = state["is_same"]

    @torch.no_grad()
    def __call__(self, interaction: Interaction) -> Tensor:
        """Scores of rows. [n_rows]"""
        if not self._is_same:
            return self._by_row(interaction)
        ids = interaction[HISTORY_ID].cpu().numpy()
        _, first, row = np.unique(ids, return_index=True, return_inverse=True)
        parts = np.split(first, range(self._at_once, len(first), self._at_once))
        table = torch.cat([self._by_history(interaction[part]).view(len(part), -1) for part in parts])
        items = interaction[self._item_field]
        found, expected = table[torch.arange(len(first)), items[first]], self._by_row(interaction[first])
        difference, largest = (found - expected).abs(), torch.maximum(found.abs(), expected.abs())
        if not (difference <= TOLERANCE * largest.max()).all():
            self._is_same = False
            getLogger().info(f"candidates are scored row by row: scores of all items differ by {difference.max():.2g}")
            return self._by_row(interaction)
        return table[torch.from_numpy(row).to(table.device), items]
