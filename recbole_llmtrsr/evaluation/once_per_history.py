"""Lets RecBole's sequential models encode each history once instead of once per sampled candidate.

RecBole scores row by row, so that 21 candidates cost 21 passes over one history. `full_sort_predict` encodes the
history once and scores all items, including the candidates. In most models, both compute the same products of the same
vectors, summed in another order. Some models differ (SHAN reads other columns). Therefore one row of every history is
scored both ways; if the scores differ, the model is evaluated row by row from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from recbole_llmtrsr.data.histories import HISTORY_ID

TOLERANCE = 1e-4  # relative to the largest score of the two
MOST_SCORES = 2**22  # scores of all items in one pass
FEWEST_HISTORIES = 16  # per pass; with fewer, there would be more passes and equal vectors would not tie


@cache
def scoring_once_per_history(host: type[nn.Module]) -> type[nn.Module]:
    """Subclass a model class of RecBole so that `predict` encodes each history once, if this reduces work.

    The function leaves these cases unchanged: models that are not sequential, models that only look up vectors, classes
    that define `predict` and `full_sort_predict` in different bases, and catalogues above
    `MOST_SCORES / FEWEST_HISTORIES` items.
    """
    is_read = issubclass(host, SequentialRecommender)
    if not is_read or _defining(host, "predict") is not _defining(host, "full_sort_predict"):
        return host

    class OnceScored(host):  # type: ignore[misc, valid-type]
        """The host class with `once_per_history`, which scores its rows; None if the host scores row by row."""

        once_per_history: OncePerHistory | None = None

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            at_once = MOST_SCORES // self.n_items
            if at_once >= FEWEST_HISTORIES and _reads(self):
                self.once_per_history = OncePerHistory(
                    super().predict, super().full_sort_predict, self.ITEM_ID, at_once
                )

        def predict(self, interaction: Interaction) -> Tensor:
            """Score rows. [n_rows]"""
            score = super().predict if self.once_per_history is None else self.once_per_history
            return score(interaction)

    OnceScored.__name__ = OnceScored.__qualname__ = host.__name__  # the name in logs
    return OnceScored


def _reads(model: nn.Module) -> bool:
    """Whether a model has layers with weights other than embeddings."""
    parts = [part for part in model.modules() if part is not model and not isinstance(part, nn.Embedding)]
    return any(True for part in parts for _ in part.parameters(recurse=False))


def _defining(model_class: type, method: str) -> type:
    return next(kind for kind in model_class.__mro__ if method in vars(kind))


class OncePerHistory:
    """Computes `predict` by means of `full_sort_predict` as long as their scores agree.

    Args:
        by_row: function that scores rows, each a history and an item.
        by_history: function that scores all items for the history of each row.
        item_field: name of the item column.
        at_once: maximum number of histories per call of `by_history`.
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
        self._n_batches, self._is_same = 0, True  # in the batches so far

    def state(self) -> dict[str, Any]:
        """The checks so far, for a resumed run."""
        return {"n_batches": self._n_batches, "is_same": self._is_same}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned."""
        self._n_batches, self._is_same = state["n_batches"], state["is_same"]

    @torch.no_grad()
    def __call__(self, interaction: Interaction) -> Tensor:
        """Score rows. [n_rows]"""
        if self._is_same:
            try:
                scores, difference = self._of_histories(interaction)
                if difference <= TOLERANCE:
                    return scores
                reason = f"scores of full ranking differ by {difference:.2g}, relative to the largest score"
            except (NotImplementedError, RuntimeError, IndexError) as error:
                reason = f"{type(error).__name__} {error}".strip()
            self._is_same = False
            getLogger().info(f"the model scores candidates row by row: {reason}")
        return self._by_row(interaction)

    def _of_histories(self, interaction: Interaction) -> tuple[Tensor, float]:
        """Scores of rows [n_rows], and their largest relative difference from scores by row, on one row per history."""
        _, history, count = np.unique(interaction[HISTORY_ID].cpu().numpy(), return_inverse=True, return_counts=True)
        rows = np.argsort(history, kind="stable")  # history by history
        # Another row of the history in every batch, since the first is usually the target.
        seen = rows[count.cumsum() - 1 - self._n_batches % count]
        self._n_batches += 1
        parts = np.split(seen, range(self._at_once, len(seen), self._at_once))
        table = torch.cat([self._all_items(interaction, part) for part in parts])
        items = interaction[self._item_field]
        scores = table[torch.from_numpy(history).to(table.device), items]
        found, expected = scores[seen], self._by_row(interaction[seen])
        largest = torch.maximum(found.abs(), expected.abs()).max()
        return scores, float((found - expected).abs().max() / largest.clamp(min=1e-30))

    def _all_items(self, interaction: Interaction, rows: np.ndarray) -> Tensor:
        """Scores of all items for the histories of these rows. [n, n_items]"""
        padded = np.resize(rows, max(len(rows), FEWEST_HISTORIES))
        return self._by_history(interaction[padded]).view(len(padded), -1)[: len(rows)]
