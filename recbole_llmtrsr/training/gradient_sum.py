"""Lets one process train on the shards of a batch exactly as several processes do, with equal sums and dropout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds dropout for one shard, whichever process trains on it, then restores the random state."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class GradientSum:
    """Sums the gradients of trained weights shard by shard, since floating-point sums depend on their order."""

    def __init__(self, weights: Iterable[torch.nn.Parameter]) -> None:
        self._weights = list(weights)
        self._sums: list[torch.Tensor | None] = [None] * len(self._weights)

    def take(self) -> None:
        """Add the gradients of a shard, and clear them in the weights."""
        for i, weight in enumerate(self._weights):
            own, so_far = weight.grad, self._sums[i]
            self._sums[i] = so_far if own is None else own if so_far is None else so_far.add_(own)
            weight.grad = None

    def give(self) -> None:
        """Assign the sums to the weights as gradients."""
        for weight, total in zip(self._weights, self._sums, strict=True):
            weight.grad = total
