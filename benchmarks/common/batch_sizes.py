"""Finds the fastest batch size of a method on a few prompts similar to those that are timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from common.prompts import Prompts
from common.timing import fastest_size
from common.ways import Way

# The largest sizes to try; on a CPU, larger batches are not faster.
LARGEST = {"cpu": {"rows": 32, "histories": 4}}
LARGEST_ELSEWHERE = {"rows": 128, "histories": 16}


def batch_size(device: torch.device, way: Way, prompts: Prompts, call: Callable[[Prompts, int], Any]) -> int:
    """Return the given size of a method, or the power of two with which a call is fastest on some of the prompts."""
    if way.budget is not None:
        return way.budget.max_tokens
    tried = sample(device, prompts)
    return fastest_size(device, way.name, lambda size: call(tried, size), sizes(device, way.unit, tried))


def sample(device: torch.device, prompts: Prompts) -> Prompts:
    """Select histories of medium length, enough for the largest size; the same for every method."""
    largest = LARGEST.get(device.type, LARGEST_ELSEWHERE)
    n_candidates = len(prompts.candidates[0])
    return prompts.middle(max(largest["histories"], -(-largest["rows"] // n_candidates)))


def sizes(device: torch.device, unit: str, tried: Prompts) -> list[int]:
    """Return powers of two up to the largest size that the prompts fill, so that no two sizes make equal calls."""
    filled = {"rows": len(tried), "histories": len(tried.prefixes)}[unit]
    most = min(LARGEST.get(device.type, LARGEST_ELSEWHERE)[unit], filled)
    return [2**i for i in range(most.bit_length())]
