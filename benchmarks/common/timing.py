"""Fair timing of calls: after a warm-up, in alternation, each with its best batch size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from recbole_llmtrsr.runtime.device import synchronize

Result = TypeVar("Result")

OUT_OF_MEMORY = "out of memory with a batch size of 1: choose a smaller --shape or fewer --candidates"
# A size that is slower than the best by this factor ends the search, since all further sizes are larger.
HOPELESS = 1.3
PATIENCE = 5.0  # seconds, after which a size is measured only once


def timed(device: torch.device, call: Callable[[], Result]) -> tuple[float, Result]:
    """Measure the seconds of a call, including asynchronous work on the device, and return its result."""
    synchronize(device)
    start = time.perf_counter()
    result = call()
    synchronize(device)
    return time.perf_counter() - start, result


def spread(values: Sequence[float], digits: int) -> str:
    """Format median, minimum and maximum."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def by_turns(
    device: torch.device, calls: Mapping[str, Callable[[int], Any]], sizes: Mapping[str, int], repetitions: int
) -> tuple[dict[str, list[float]], dict[str, Any], dict[str, int]]:
    """Measure the seconds of every repetition, the last result, and the last batch size of each call.

    In every repetition all calls run one after another, so that a slow minute of the machine affects all of them; an
    additional repetition warms up. A call that runs out of memory continues with half its batch size, and the lost time
    does not count.

    Raises:
        SystemExit: memory does not suffice for a batch of 1.
    """
    sizes = dict(sizes)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for turn in range(repetitions + 1):
        for name, call in calls.items():
            while (done := _timed_if_it_fits(device, lambda call=call, name=name: call(sizes[name]))) is None:  # type: ignore[misc]
                if sizes[name] == 1:
                    raise SystemExit(f"{name}: {OUT_OF_MEMORY}")
                sizes[name] //= 2
                print(f"{name}: out of memory, continuing with a batch size of {sizes[name]:,}\n")
            took, results[name] = done
            if turn:
                seconds[name].append(took)
    return seconds, results, sizes


def fastest_size(device: torch.device, name: str, call: Callable[[int], Any], sizes: Sequence[int]) -> int:
    """Find the batch size with which a call is fastest; ascending sizes are tried until they become clearly slower.

    Raises:
        SystemExit: memory does not suffice for the first size.
    """
    best: dict[int, float] = {}
    for size in sizes:
        if not best and _timed_if_it_fits(device, lambda size=size: call(size)) is None:  # type: ignore[misc] # warms up
            break
        seconds: list[float] = []
        while len(seconds) < 2 and sum(seconds) < PATIENCE:
            if (done := _timed_if_it_fits(device, lambda size=size: call(size))) is None:  # type: ignore[misc]
                break
            seconds.append(done[0])
        if done is None:
            break
        best[size] = min(seconds)
        if best[size] > HOPELESS * min(best.values()):
            break
    if not best:
        raise SystemExit(f"{name}: {OUT_OF_MEMORY}")
    return min(best, key=best.__getitem__)


def _timed_if_it_fits(device: torch.device, call: Callable[[], Result]) -> tuple[float, Result] | None:
    try:
        return timed(device, call)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
    # Outside the except clause, where the error no longer references tensors of the failed call.
    clear_device_cache(garbage_collection=True)
    return None
