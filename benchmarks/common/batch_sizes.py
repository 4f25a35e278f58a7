"""The batch size that is fastest for a way, found on a few prompts like those that are timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from common.prompts import Prompts
from common.timing import fastest_size
from common.ways import Way

# The largest sizes tried. On a CPU more at a time gain nothing.
LARGEST = {"cpu": {"rows": 32, "histories": 4}}
LARGEST_ELSEWHERE = {"rows": 128, "histories": 16}


def batch_size(device: torch.device, way: Way, prompts: Prompts, call: Callable[[Prompts, int], Any]) -> int:
    """What a way has as given, or the power of two with which a call is fastest on the sample of the prompts."""
    if way.budget is not None:
        return way.budget.max_tokens
    tried = sample(device, prompts)
    return fastest_size(device, way.name, lambda size: call(tried, size), sizes(device, way.unit, tried))


def sample(device: torch.device, prompts: Prompts) -> Prompts:
    """Neighbours in length, from the middle, as many as fill the largest size; the same for every way."""
    largest = LARGEST.get(device.type, LARGEST_ELSEWHERE)
    n_candidates = len(prompts.candidates[0])
    return prompts.middle(max(largest["histories"], -(-largest["rows"] // n_candidates)))


def sizes(device: torch.device, unit: str, tried: Prompts) -> list[int]:
    """Powers of two, up to the largest that the prompts fill, so that no two of them make equal calls."""
    filled = {"rows": len(tried), "histories": len(tried.prefixes)}[unit]
    most = min(LARGEST.get(device.type, LARGEST_ELSEWHERE)[unit], filled)
    return [2**i for i in range(most.bit_length())]
