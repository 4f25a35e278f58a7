from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

import pytest
import torch

from recbole_llmtrsr.evaluation import cost as module
from recbole_llmtrsr.evaluation.cost import GIB, Stage, StageCosts, cost_line, peak_memory_gib, stage_cost

CPU = torch.device("cpu")


class Counted:
    """A model's counts, set by hand."""

    not_counted: str | None = None

    def __init__(self, **counts: int) -> None:
        self.counts = counts

    def totals(self) -> dict[str, int]:
        return dict(self.counts)


@pytest.fixture
def measure(monkeypatch):
    """Sets what the clock and the memory will say, and counts the resets of memory."""

    def set_up(ticks: Iterable[float], peaks: Iterable[int | None]) -> list[torch.device]:
        ticks, peaks, resets = iter(ticks), iter(peaks), []

        def reset(device: torch.device) -> str:
            resets.append(device)
            return "whole process"

        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
        monkeypatch.setattr(module, "peak_memory_bytes", lambda device: next(peaks))
        monkeypatch.setattr(module, "reset_peak_memory", reset)
        monkeypatch.setattr(module, "device_name", lambda device: "an abacus")
        monkeypatch.setattr(module, "matrix_product_peak", lambda device, dtype: 1e10)
        return resets

    return set_up


def test_every_figure_of_a_stage():
    counted = {"tokens": 3000, "operations": 8 * 10**9, "histories": 10, "candidates": 210}
    stage = Stage(passes=2, seconds=4.0, peak_memory=3 * GIB // 2, counted=counted)
    assert stage_cost(stage, n_users=5, peak=1e10) == {
        "passes": 2,
        "seconds": 4.0,
        "seconds_per_1000_users": 400.0,  # two passes over five users
        "histories": 10,
        "candidates": 210,
        "tokens": 3000,
        "tokens_per_second": 750.0,
        "operations": 8 * 10**9,
        "flops_per_second": 2e9,
        "share_of_peak": 0.2,
        "peak_memory_gib": 1.5,
    }


def test_operations_that_cannot_be_counted_leave_the_tokens():
    found = stage_cost(Stage(passes=1, seconds=2.0, counted={"tokens": 10}), n_users=None, peak=1e10)
    assert (found["tokens"], found["tokens_per_second"]) == (10, 5.0)
    assert (found["operations"], found["flops_per_second"], found["share_of_peak"]) == (None, None, None)
    assert (found["seconds_per_1000_users"], found["peak_memory_gib"]) == (None, None)


@pytest.mark.parametrize("n_users", [0, 5, None])
def test_a_stage_that_never_ran_divides_nothing_by_nothing(n_users):
    found = stage_cost(Stage(counted={"tokens": 0, "operations": 0}), n_users, peak=1e10)
    assert (found["passes"], found["seconds"], found["tokens"]) == (0, 0.0, 0)
    assert found["seconds_per_1000_users"] is found["tokens_per_second"] is found["share_of_peak"] is None


def test_a_share_above_one_is_not_given_and_the_peak_is_called_disturbed(measure):
    assert (
        stage_cost(Stage(passes=1, seconds=1.0, counted={"operations": 12}), None, peak=10.0)["share_of_peak"] is None
    )
    measure(ticks=[0.0, 1.0], peaks=[GIB])
    counts = Counted(tokens=0, operations=0)
    costs = StageCosts(CPU, torch.bfloat16)
    costs.watch(counts)
    with costs("training"):
        counts.counts["operations"] = 2 * 10**10  # twice the peak
    found = costs.report({})
    assert found["peak_disturbed"] is True
    assert found["training"]["share_of_peak"] is None
    assert cost_line(found).endswith(
        "other programs disturbed the measurement of that peak, so no share of it is given"
    )


def test_epochs_validations_and_the_test_are_told_apart(measure):
    resets = measure(
        ticks=[0.0, 10.0, 20.0, 21.0, 30.0, 42.0, 50.0, 51.5, 60.0, 64.0], peaks=[GIB, 5, 3 * GIB, 4, None]
    )
    counts = Counted(tokens=1000)
    costs = StageCosts(CPU)
    costs.watch(counts)
    for stage, n_tokens in [("training", 100), ("validation", 7)] * 2:
        with costs(stage):
            counts.counts["tokens"] += n_tokens
    with costs("evaluation"):
        counts.counts["tokens"] += 40
    assert costs.stages == {
        "training": Stage(passes=2, seconds=22.0, peak_memory=3 * GIB, counted={"tokens": 200}),
        "validation": Stage(passes=2, seconds=2.5, peak_memory=5, counted={"tokens": 14}),
        "evaluation": Stage(passes=1, seconds=4.0, peak_memory=None, counted={"tokens": 40}),
    }
    assert resets == [CPU] * 5


def test_the_report_names_the_device_its_peak_and_the_number_format(measure):
    measure(ticks=[0.0, 4.0], peaks=[GIB])
    counts = Counted(tokens=0, operations=0, histories=0, candidates=0)
    costs = StageCosts(CPU, torch.bfloat16)
    costs.watch(counts)
    with costs("evaluation"):
        counts.counts = {"tokens": 3000, "operations": 8 * 10**9, "histories": 8, "candidates": 32}
    found = costs.report({"evaluation": 8})
    assert {name: value for name, value in found.items() if not isinstance(value, dict)} == {
        "device": "an abacus",
        "number_format": "bfloat16",
        "measured_peak_flops_per_second": 1e10,
        "operations_not_counted": None,
        "peak_disturbed": False,
        "peak_memory_of": "whole process",
    }
    assert found["training"] == stage_cost(Stage(), None, 1e10)
    assert found["evaluation"] == stage_cost(Stage(1, 4.0, GIB, counts.counts), 8, 1e10)
    assert cost_line(found) == (
        "evaluation 4.0 s, 500.0 s per 1,000 users, 750 tokens/s, 2 GFLOP/s, 20% of the measured peak; peak memory"
        " 1.00 GiB (whole process); matrix products reach 10 GFLOP/s in bfloat16 on an abacus"
    )


def test_a_model_of_recbole_has_time_and_memory_and_says_why_not_more(measure):
    measure(ticks=[0.0, 1.0, 2.0, 4.5], peaks=[2 * GIB, GIB])
    costs = StageCosts(CPU)
    costs.watch(None)
    for stage in ("training", "evaluation"):
        with costs(stage):
            pass
    found = costs.report({"evaluation": 5})
    assert found["measured_peak_flops_per_second"] is found["number_format"] is found["training"]["tokens"] is None
    assert found["operations_not_counted"] == "RecBole's own models count no work"
    assert peak_memory_gib(found) == 2.0
    assert cost_line(found) == (
        "training 1.0 s; evaluation 2.5 s, 500.0 s per 1,000 users; peak memory 2.00 GiB (whole process)"
    )


def test_why_operations_are_not_counted_is_the_models_word(measure):
    measure(ticks=[], peaks=[])
    counts = Counted(tokens=0)
    counts.not_counted = "experts"
    costs = StageCosts(CPU, torch.float32)
    costs.watch(counts)
    found = costs.report({})
    assert found["operations_not_counted"] == "experts"
    assert peak_memory_gib(found) is None


def test_a_pass_that_fails_counts_as_none_and_its_fault_goes_on(measure):
    measure(ticks=[0.0], peaks=[])
    costs = StageCosts(CPU)
    with pytest.raises(KeyError), costs("training"):
        raise KeyError("gone")
    assert costs.stages["training"] == Stage()
