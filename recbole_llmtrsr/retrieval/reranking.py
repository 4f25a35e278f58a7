"""A retriever ranks the whole catalogue, and an expensive model re-ranks its top k."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import processes


class Retriever(Protocol):
    """Scores the whole catalogue for every history of a batch."""

    def scores(self, interaction: Interaction) -> Tensor:
        """Scores, larger is better; column 0, the padding, has no meaning. fp32 or fp64 [batch_size, n_items]"""

    def report(self) -> dict[str, Any]:
        """Its name and source, for result.json."""


class PopularityRetriever:
    """Scores an item by how often training users chose it, as Pop does.

    Args:
        counts: training events of every item. [n_items]
        device: of the scores.
    """

    def __init__(self, counts: npt.NDArray[np.int64], device: torch.device) -> None:
        self._counts = torch.from_numpy(counts).to(device, torch.float32)

    def scores(self, interaction: Interaction) -> Tensor:
        """The same counts for every history. [batch_size, n_items]"""
        return self._counts.expand(len(interaction), -1)

    def report(self) -> dict[str, Any]:
        """Its name, for result.json."""
        return {"retriever": "Pop"}


class Reranking:
    """Full ranking by a retriever, whose top k a more expensive model re-ranks.

    Args:
        top_k: items that are re-ranked.
        n_items: of the catalogue, padding included.
        seed: of the order in which equal items at the border of the top are taken.
        resolution: scores of the re-ranker are rounded to multiples of it, as in its evaluation among candidates.
        left_out: row and item of pairs that are not ranked, by the histories' ids; they take no place in the top.

    Attributes:
        blend: share of the re-ranker in the order of the top, from 0 to 1; see `reranked`.
        order: of equal items at the border of the top, by item id.

    Raises:
        UserError: there are not as many items.
    """

    def __init__(
        self,
        retriever: Retriever,
        top_k: int,
        n_items: int,
        seed: int,
        resolution: float | None = None,
        left_out: Callable[[list[int]], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        if top_k > n_items - 1:
            raise UserError(
                f"rerank_top_k: {top_k} is more than the catalogue of {n_items - 1} items: set it to {n_items - 1} or"
                " less"
            )
        self.retriever, self.top_k, self.blend = retriever, top_k, 1.0
        self.order = torch.randperm(n_items, generator=torch.Generator().manual_seed(seed))
        self._resolution, self._left_out = resolution, left_out
        self._known: dict[int, tuple[Tensor, Tensor]] | None = None

    def top(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """The retriever's scores [B, n_items] and its best items, in no particular order [B, top_k].

        Raises:
            UserError: a score is not finite.
        """
        scores = ranked = self.checked_scores(interaction)
        if self._left_out is not None:
            rows, items = (places.to(scores.device) for places in self._left_out(interaction[HISTORY_ID].tolist()))
            ranked = scores.index_put((rows, items), scores.new_tensor(-torch.inf))
        return scores, top_items(ranked, self.top_k, self.order)

    def checked_scores(self, interaction: Interaction) -> Tensor:
        """The retriever's scores. [B, n_items]

        Raises:
            UserError: a score is not finite.
        """
        scores = self.retriever.scores(interaction)
        if processes.count() > 1:  # one order for all of them, to the last bit
            scores = processes.broadcast(scores.cpu()).to(scores.device)
        if not torch.isfinite(scores[:, 1:]).all():
            raise UserError("the retriever's scores hold nan or infinite ones: it diverged in training; train it anew")
        return scores

    def scores(self, interaction: Interaction, rank: Callable[[list[int], Tensor], Tensor]) -> Tensor:
        """The order of the catalogue, as scores.

        Args:
            interaction: rows of the histories.
            rank: the re-ranker's scores of items, given the histories' ids. [B], [B, k] -> [B, k]

        Returns:
            fp32 [B, n_items].
        """
        found, items = self.top(interaction)
        if self.blend == 0:
            return places(found)
        items, new = self._ranked(interaction[HISTORY_ID].tolist(), items, rank)
        if self._resolution is not None:
            new = torch.round(new / self._resolution) * self._resolution
        return reranked(found, items, new, self.blend)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """A context in which the re-ranker scores each history once, however often it is ranked."""
        self._known = {}
        try:
            yield
        finally:
            self._known = None

    def _ranked(
        self, history_ids: list[int], items: Tensor, rank: Callable[[list[int], Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Items and their new scores; remembered together, since a retriever may find other ones the next time."""
        if self._known is None:
            return items, rank(history_ids, items)
        if not all(i in self._known for i in history_ids):
            self._known.update(zip(history_ids, zip(items, rank(history_ids, items), strict=True), strict=True))
        known = [self._known[i] for i in history_ids]
        return torch.stack([own for own, _ in known]), torch.stack([scores for _, scores in known])


def top_items(scores: Tensor, k: int, order: Tensor) -> Tensor:
    """The k best items of every history, in no particular order.

    Args:
        scores: of the retriever; column 0 is the padding and is never taken. [B, n_items]
        k: at most n_items - 1.
        order: which of equal items at the border are taken: those of smaller values, all different. [n_items]

    Returns:
        item ids. [B, k]
    """
    scores = scores.clone()
    scores[:, 0] = -torch.inf
    border = scores.topk(k, dim=1).values[:, -1:]
    at_border = 0.5 - order.to(scores.device, torch.float64) / (2 * len(order))
    # Above the border surely, at the border in the given order, below it not at all.
    taken = torch.where(scores > border, 1.0, torch.where(scores == border, at_border, -1.0))
    taken[:, 0] = -torch.inf
    return taken.topk(k, dim=1).indices


def reranked(scores: Tensor, items: Tensor, new: Tensor, blend: float) -> Tensor:
    """The order of the catalogue when the given items come first, re-ranked, and all others as they were.

    Args:
        scores: of the retriever. [B, n_items]
        items: the items to re-rank, the best of each history by `scores`. [B, k]
        new: their scores by the re-ranker. [B, k]
        blend: share of the re-ranker. Among the given items, scores of both, with mean 0 and deviation 1 over a
            history's items, are weighted by `blend` and 1 - `blend`.

    Returns:
        fp32 [B, n_items]: how many items are worse. What is equal, among the given items or among the others, stays so.
    """
    mixed = (1 - blend) * standardized(scores.gather(1, items)) + blend * standardized(new)
    return places(scores).scatter(1, items, scores.shape[1] + places(mixed))


def places(scores: Tensor) -> Tensor:
    """How many columns of a row are worse, equal for equal scores: an order that no rounding disturbs. fp32 [B, n]"""
    return torch.searchsorted(scores.sort(1).values, scores.contiguous()).float()


def standardized(scores: Tensor) -> Tensor:
    """Scores of each row with mean 0 and standard deviation 1; 0 where all are equal. fp64 [B, k]"""
    scores = scores.double()
    centred = scores - scores.mean(1, keepdim=True)
    is_flat = scores.amax(1, keepdim=True) == scores.amin(1, keepdim=True)
    return torch.where(is_flat, 0.0, centred / centred.square().mean(1, keepdim=True).sqrt())
