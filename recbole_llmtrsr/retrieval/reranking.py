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
        """Return scores, fp32 or fp64 [batch_size, n_items]; larger is better, and column 0 (padding) is ignored."""

    def report(self) -> dict[str, Any]:
        """Return the retriever's name and source, for result.json."""


class PopularityRetriever:
    """Scores an item by how often training users chose it, as Pop does.

    Args:
        counts: number of training events of every item. [n_items]
        device: device of the scores.
    """

    def __init__(self, counts: npt.NDArray[np.int64], device: torch.device) -> None:
        self._counts = torch.from_numpy(counts).to(device, torch.float32)

    def scores(self, interaction: Interaction) -> Tensor:
        """Return the same counts for every history. [batch_size, n_items]"""
        return self._counts.expand(len(interaction), -1)

    def report(self) -> dict[str, Any]:
        """Return the retriever's name, for result.json."""
        return {"retriever": "Pop"}


class Reranking:
    """Full ranking by a retriever, whose top k a more expensive model re-ranks.

    Args:
        retriever: scores the whole catalogue.
        top_k: number of items to re-rank.
        n_items: number of items in the catalogue, including padding.
        seed: seed of the order that breaks ties at the border of the top k.
        resolution: step to whose multiples the re-ranker's scores are rounded, as in its evaluation among candidates.
        left_out: function from history ids to the rows and items of pairs that are not ranked; such items cannot enter
            the top k.

    Attributes:
        blend: weight of the re-ranker in the order of the top k, from 0 to 1; see `reranked`.
        order: priority of each item id in ties at the border of the top k; smaller values win.

    Raises:
        UserError: if the catalogue has fewer than `top_k` items.
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
                f"rerank_top_k: {top_k} exceeds the catalogue of {n_items - 1} items: set it to {n_items - 1} or less"
            )
        self.retriever, self.top_k, self.blend = retriever, top_k, 1.0
        self.order = torch.randperm(n_items, generator=torch.Generator().manual_seed(seed))
        self._resolution, self._left_out = resolution, left_out
        self._known: dict[int, tuple[Tensor, Tensor]] | None = None

    def top(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Return the retriever's scores [B, n_items] and its best items, in no particular order [B, top_k].

        Raises:
            UserError: if a score is not finite.
        """
        scores = ranked = self.checked_scores(interaction)
        if self._left_out is not None:
            rows, items = (places.to(scores.device) for places in self._left_out(interaction[HISTORY_ID].tolist()))
            ranked = scores.index_put((rows, items), scores.new_tensor(-torch.inf))
        return scores, top_items(ranked, self.top_k, self.order)

    def checked_scores(self, interaction: Interaction) -> Tensor:
        """Return the retriever's scores. [B, n_items]

        Raises:
            UserError: if a score is not finite.
        """
        scores = self.retriever.scores(interaction)
        if processes.count() > 1:  # all processes must use bitwise equal scores
            scores = processes.broadcast(scores.cpu()).to(scores.device)
        if not torch.isfinite(scores[:, 1:]).all():
            raise UserError("the retriever's scores include nan or infinite values: it diverged; train it again")
        return scores

    def scores(self, interaction: Interaction, rank: Callable[[list[int], Tensor], Tensor]) -> Tensor:
        """Rank the catalogue, and return the order as scores.

        Args:
            interaction: rows of the histories.
            rank: function that returns the re-ranker's scores of items, given history ids. [B], [B, k] -> [B, k]

        Returns:
            Scores, fp32 [B, n_items].
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
        """Return a context in which the re-ranker scores each history only once, even if it is ranked repeatedly."""
        self._known = {}
        try:
            yield
        finally:
            self._known = None

    def _ranked(
        self, history_ids: list[int], items: Tensor, rank: Callable[[list[int], Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return items and their new scores, cached together since a retriever may find other items the next time."""
        if self._known is None:
            return items, rank(history_ids, items)
        if not all(i in self._known for i in history_ids):
            self._known.update(zip(history_ids, zip(items, rank(history_ids, items), strict=True), strict=True))
        known = [self._known[i] for i in history_ids]
        return torch.stack([own for own, _ in known]), torch.stack([scores for _, scores in known])


def top_items(scores: Tensor, k: int, order: Tensor) -> Tensor:
    """Select the k best items of every history, in no particular order.

    Args:
        scores: scores of the retriever; column 0 is the padding and is never selected. [B, n_items]
        k: number of items to select, at most n_items - 1.
        order: distinct priorities of the items; among ties at the border, smaller values win. [n_items]

    Returns:
        Item ids. [B, k]
    """
    scores = scores.clone()
    scores[:, 0] = -torch.inf
    border = scores.topk(k, dim=1).values[:, -1:]
    at_border = 0.5 - order.to(scores.device, torch.float64) / (2 * len(order))
    # Take all items above the border, those at the border in the given order, and none below it.
    taken = torch.where(scores > border, 1.0, torch.where(scores == border, at_border, -1.0))
    taken[:, 0] = -torch.inf
    return taken.topk(k, dim=1).indices


def reranked(scores: Tensor, items: Tensor, new: Tensor, blend: float) -> Tensor:
    """Rank the given items first, in a new order, and all others after them in the retriever's order.

    Args:
        scores: scores of the retriever. [B, n_items]
        items: the items to re-rank, which are the best of each history by `scores`. [B, k]
        new: the re-ranker's scores of these items. [B, k]
        blend: weight of the re-ranker. Both models' scores of the given items are standardized over a history's items,
            then weighted by `blend` and 1 - `blend`.

    Returns:
        The number of worse items for each item, fp32 [B, n_items]. Ties among the given items, and among the others,
        remain ties.
    """
    mixed = (1 - blend) * standardized(scores.gather(1, items)) + blend * standardized(new)
    return places(scores).scatter(1, items, scores.shape[1] + places(mixed))


def places(scores: Tensor) -> Tensor:
    """Count the worse columns of each row, equal for equal scores, as an order that is exact in fp32. [B, n]"""
    return torch.searchsorted(scores.sort(1).values, scores.contiguous()).float()


def standardized(scores: Tensor) -> Tensor:
    """Standardize each row to mean 0 and standard deviation 1; rows of equal scores become 0. fp64 [B, k]"""
    scores = scores.double()
    centred = scores - scores.mean(1, keepdim=True)
    is_flat = scores.amax(1, keepdim=True) == scores.amin(1, keepdim=True)
    return torch.where(is_flat, 0.0, centred / centred.square().mean(1, keepdim=True).sqrt())
