"""The cost of a run: time, tokens, operations and memory, by stage and for every model.

    flops_per_second = operations / seconds,   share_of_peak = flops_per_second / measured peak

`seconds` cover the whole stage, data path and metrics included, so the share describes the use of the device, not the
speed of one kernel. Source: the model FLOPs utilization of Chowdhery et al. (PaLM, 2022, appendix B). Deviation: the
peak is that of matrix products measured on the device, not the one its maker states.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch

from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.device import (
    device_name,
    matrix_product_peak,
    peak_memory_bytes,
    reset_peak_memory,
    synchronize,
)

GIB = 2**30
STAGES = ("training", "validation", "evaluation")


class Counts(Protocol):
    """A model's counts of its work."""

    not_counted: str | None

    def totals(self) -> Mapping[str, int]:
        """Totals by name: tokens, histories, candidates and, unless `not_counted` gives a reason, operations."""


@dataclass
class Stage:
    """The cost of a stage so far.

    Attributes:
        passes: epochs, validations, tests.
        seconds: of all passes.
        peak_memory: bytes, the maximum over the passes; None where the system reports none.
        counted: the model's counts by name: tokens, histories, candidates, operations.
    """

    passes: int = 0
    seconds: float = 0.0
    peak_memory: int | None = None
    counted: dict[str, int] = field(default_factory=dict)


class StageCosts:
    """Measures the stages of a run.

    Args:
        device: where the model will run; the peak is measured here, before the model takes the memory.
        dtype: number format of the model's matrix products, whose peak is summed over all processes; None for a model
            that does not count its operations.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.stages = {name: Stage() for name in STAGES}
        own_peak = None if dtype is None else matrix_product_peak(device, dtype)
        self.peak = None if own_peak is None else sum(filter(None, processes.all_gather(own_peak)))
        self._device, self._dtype = device, dtype
        self._counts: Counts | None = None
        self._memory_of: str | None = None
        self._pass: tuple[str, float, Mapping[str, int]] | None = None  # the current one: stage, start, counts at start

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add a pass to a stage."""
        synchronize(self._device)
        self._memory_of = reset_peak_memory(self._device)
        self._pass = name, time.perf_counter(), self._totals()
        yield
        synchronize(self._device)
        self._add_pass(self.stages[name])
        self.stages[name].passes += 1
        self._pass = None

    def state(self) -> dict[str, Any]:
        """All stages so far, with the work of the current pass, which is not counted as a pass yet."""
        stages = {name: replace(stage, counted=dict(stage.counted)) for name, stage in self.stages.items()}
        if self._pass is not None:
            self._add_pass(stages[self._pass[0]])
        return {name: asdict(stage) for name, stage in stages.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state()` returned."""
        self.stages = {name: Stage(**stage) for name, stage in state.items()}

    def _add_pass(self, stage: Stage) -> None:
        """Add the work of the current pass to a stage."""
        assert self._pass is not None
        _, start, before = self._pass
        stage.seconds += time.perf_counter() - start
        peak = peak_memory_bytes(self._device)
        stage.peak_memory = peak if stage.peak_memory is None or peak is None else max(peak, stage.peak_memory)
        for counter, total in self._totals().items():
            stage.counted[counter] = stage.counted.get(counter, 0) + total - before.get(counter, 0)

    def watch(self, counts: Counts | None) -> None:
        """Read a model's counts from now on; None for RecBole's models, which count nothing."""
        self._counts = counts

    def _totals(self) -> Mapping[str, int]:
        return {} if self._counts is None else self._counts.totals()

    def report(self, n_users: Mapping[str, int]) -> dict[str, Any]:
        """The `cost` of result.json; ``n_users`` are those ranked in one pass, by stage."""
        not_counted = "RecBole's own models count no work" if self._counts is None else self._counts.not_counted
        return {
            "device": device_name(self._device),
            "number_format": None if self._dtype is None else str(self._dtype).removeprefix("torch."),
            "measured_peak_flops_per_second": self.peak,
            "operations_not_counted": not_counted,
            "peak_disturbed": self._is_peak_disturbed(),
            "peak_memory_of": self._memory_of,
            **{name: stage_cost(stage, n_users.get(name), self.peak) for name, stage in self.stages.items()},
        }

    def _is_peak_disturbed(self) -> bool | None:
        """Whether a stage computed faster than the measured peak: other programs ran beside the measurement."""
        if self.peak is None:
            return None
        speeds = [_ratio(stage.counted.get("operations"), stage.seconds) for stage in self.stages.values()]
        return any(speed > self.peak for speed in speeds if speed is not None)


def stage_cost(stage: Stage, n_users: int | None, peak: float | None) -> dict[str, Any]:
    """The figures of a stage; null where they do not apply, were not counted, or would divide by 0 seconds."""
    tokens, operations = stage.counted.get("tokens"), stage.counted.get("operations")
    flops = _ratio(operations, stage.seconds)
    return {
        "passes": stage.passes,
        "seconds": stage.seconds,
        "seconds_per_1000_users": _ratio(1000 * stage.seconds, stage.passes * n_users) if n_users else None,
        "histories": stage.counted.get("histories"),
        "candidates": stage.counted.get("candidates"),
        "tokens": tokens,
        "tokens_per_second": _ratio(tokens, stage.seconds),
        "operations": operations,
        "flops_per_second": flops,
        "share_of_peak": share if (share := _ratio(flops, peak)) is not None and share <= 1 else None,
        "peak_memory_gib": None if stage.peak_memory is None else stage.peak_memory / GIB,
    }


def peak_memory_gib(cost: Mapping[str, Any]) -> float | None:
    """The maximum over the stages; None where it is unknown, as in results of other programs."""
    peaks = [(cost.get(name) or {}).get("peak_memory_gib") for name in STAGES]
    return max((peak for peak in peaks if peak is not None), default=None)


def cost_line(cost: Mapping[str, Any]) -> str:
    """A run's cost in one line."""
    parts = [_stage_words(name, cost[name]) for name in STAGES if cost[name]["passes"]]
    memory = peak_memory_gib(cost)
    if memory is not None:
        parts.append(f"peak memory {memory:.2f} GiB ({cost['peak_memory_of']})")
    if cost["measured_peak_flops_per_second"] is not None:
        peak = cost["measured_peak_flops_per_second"] / 1e9
        parts.append(f"matrix products reach {peak:,.0f} GFLOP/s in {cost['number_format']} on {cost['device']}")
    if cost.get("peak_disturbed"):
        parts.append("other programs disturbed the measurement of that peak, so no share of it is given")
    return "; ".join(parts)


def _stage_words(name: str, stage: Mapping[str, Any]) -> str:
    words = [f"{name} {stage['seconds']:.1f} s"]
    if stage["seconds_per_1000_users"] is not None:
        words.append(f"{stage['seconds_per_1000_users']:.1f} s per 1,000 users")
    if stage["tokens_per_second"] is not None:
        words.append(f"{stage['tokens_per_second']:,.0f} tokens/s")
    if stage["flops_per_second"] is not None:
        words.append(f"{stage['flops_per_second'] / 1e9:,.0f} GFLOP/s")
    if stage["share_of_peak"] is not None:
        words.append(f"{stage['share_of_peak']:.0%} of the measured peak")
    return ", ".join(words)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
