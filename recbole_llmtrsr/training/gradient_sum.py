"""Shards of a batch, from which one process learns as so many processes do: equal sums, equal dropout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout of a shard, whoever learns from it; afterwards the generators are where they were.

    Args:
        seed: of the shard.
        device: of the model.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class GradientSum:
    """Sums of gradients that backward passes leave at the weights; floating-point sums depend on their order.

    Args:
        weights: those that are trained.
    """

    def __init__(self, weights: Iterable[torch.nn.Parameter]) -> None:
        self._weights = list(weights)
        self._sums: list[torch.Tensor | None] = [None] * len(self._weights)

    def take(self) -> None:
        """Add the gradients of a shard, and leave none at the weights."""
        for i, weight in enumerate(self._weights):
            own, so_far = weight.grad, self._sums[i]
            self._sums[i] = so_far if own is None else own if so_far is None else so_far.add_(own)
            weight.grad = None

    def give(self) -> None:
        """Leave the sums at the weights."""
        for weight, total in zip(self._weights, self._sums, strict=True):
            weight.grad = total
