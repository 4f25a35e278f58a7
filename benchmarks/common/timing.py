"""Seconds of calls, fairly: warmed up, by turns, each at its best batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from recbole_llmtrsr.evaluation.device import synchronize

Result = TypeVar("Result")

# A size this much slower than the best ends the search: all that follow are larger still.
HOPELESS = 1.3
PATIENCE = 5.0  # seconds, after which a size is measured only once


def timed(device: torch.device, call: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of a call, whatever it left to the device included, and its result."""
    synchronize(device)
    start = time.perf_counter()
    result = call()
    synchronize(device)
    return time.perf_counter() - start, result


def by_turns(
    device: torch.device, calls: Mapping[str, Callable[[], Any]], repetitions: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every repetition, and the last result, of each call.

    One after the other in every turn, so that a slow minute of the machine meets all; one turn more warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for turn in range(repetitions + 1):
        for name, call in calls.items():
            took, results[name] = timed(device, call)
            if turn:
                seconds[name].append(took)
    return seconds, results


def fastest_size(device: torch.device, call: Callable[[int], Any], sizes: Sequence[int]) -> int:
    """The batch size with which a call is fastest; the sizes ascend, and are tried until they clearly do not pay."""
    call(sizes[0])  # warms up
    best: dict[int, float] = {}
    for size in sizes:
        seconds: list[float] = []
        try:
            while len(seconds) < 2 and sum(seconds) < PATIENCE:
                seconds.append(timed(device, lambda size=size: call(size))[0])  # type: ignore[misc]
        except torch.OutOfMemoryError:
            break
        best[size] = min(seconds)
        if best[size] > HOPELESS * min(best.values()):
            break
    return min(best, key=best.__getitem__)
