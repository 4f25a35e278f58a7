"""A comparison of two models and a scored list, small enough to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from recbole_llmtrsr.evaluation.comparison.comparison import AblationEstimate, Comparison, GroupEstimate, PairTest, Row
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate


def stage(seconds: float | None, memory: float) -> dict[str, Any]:
    return {"seconds_per_1000_users": seconds, "peak_memory_gib": memory}


def options(seed: int, epochs: int = 4, **other: Any) -> dict[str, Any]:
    return {"valid_metric": "MRR@2", "seed": seed, "epochs": epochs, **other}


def result(model: str, seed: int, mrr: float, training: float, **other: Any) -> dict[str, Any]:
    """What the report reads of a result.json."""
    return {
        "model": model,
        "seed": seed,
        "dataset": "tiny",
        "n_test": 1200,
        "test_result": {"recall@1": mrr, "recall@2": mrr, "mrr@2": mrr},
        "epochs_trained": 4,
        "seconds": {"training": training},
        "candidates": {"test": {"hash": "abcdef0123456789", "n_per_history": 3, "mode": "uni2"}},
        "cost": {
            "device": "CPU of a test",
            "number_format": None,
            "measured_peak_flops_per_second": None,
            "peak_memory_of": "the process",
            "training": stage(None, 1.5),
            "validation": stage(2.0, 1.0),
            "evaluation": stage(2.0, 0.5),
        },
        "weights": {"total": 1000, "trainable": 10},
        "versions": {"torch": "2.13"},
        "git_commit": "c0ffee",
        "options": options(seed),
        **other,
    }


def metrics(recall_1: float, recall_2: float, mrr: float, spread: float | None = 0.01) -> dict[str, Estimate]:
    return {
        name: Estimate(mean, mean - 0.05, mean + 0.05, spread)
        for name, mean in (("recall@1", recall_1), ("recall@2", recall_2), ("mrr@2", mrr))
    }


OURS = Row(
    "LLMTRSR@recurrent",
    (1, 2),
    metrics(0.5, 0.75, 0.6),
    (
        GroupEstimate("history length", "1-5 events", 700, metrics(0.5, 0.7, 0.55)),
        GroupEstimate("history length", "6-10 events", 500, metrics(0.5, 0.8, 0.65)),
        GroupEstimate("target popularity", "cold", 200, metrics(0.4, 0.7, 0.5), {"mrr@2": 0.25}),
        GroupEstimate("target popularity", "1-4 events", 1000, metrics(0.6, 0.8, 0.62)),
        GroupEstimate("prompt", "trimmed", 7, metrics(0.1, 0.2, 0.15)),
    ),
    (
        AblationEstimate("no recent items", {"mrr@2": Estimate(-0.2, -0.25, -0.15, 0.01)}),
        AblationEstimate("shuffled history", {"mrr@2": Estimate(-0.01, -0.03, 0.01, 0.01)}),
    ),
    tuple(
        result(
            "LLMTRSR",
            seed,
            mrr,
            training,
            tokens={"training": 9},
            summaries={"made": 9},
            options=options(seed, summary="recurrent"),
            validations=[{"epoch": 1, "seconds": 50.0, "score": 0.4}, {"epoch": 2, "seconds": 100.0, "score": 0.61}],
            ablations={
                "changed": {"no recent items": {"n_changed": 1199}},
                "left_out": {"no summary": "no history has a summary"},
            },
            command="python run.py --model=LLMTRSR@recurrent,Pop --seeds=1,2",
        )
        for seed, mrr, training in ((1, 0.59, 100.0), (2, 0.61, 300.0))
    ),
)
POP = Row(
    "Pop",
    (1, 2),
    metrics(0.5, 0.6, 0.58),
    (
        GroupEstimate("history length", "1-5 events", 700, metrics(0.4, 0.6, 0.5)),
        GroupEstimate("history length", "6-10 events", 500, metrics(0.5, 0.6, 0.6)),
        GroupEstimate("target popularity", "cold", 200, metrics(0.0, 0.1, 0.05), {"mrr@2": 0.25}),
        GroupEstimate("target popularity", "1-4 events", 1000, metrics(0.7, 0.8, 0.68)),
    ),
    (),
    tuple(result("Pop", seed, 0.58, 0.0, options=options(seed, epochs=1, summary="recurrent")) for seed in (1, 2)),
)
# Scores of another program: no options, no cost, one seed, no coverage of every metric.
ELSEWHERE = Row(
    "elsewhere",
    (0,),
    {"recall@1": Estimate(0.2, 0.1, 0.3, None)},
    (),
    (),
    ({"model": "elsewhere", "seed": 0, "dataset": "tiny", "n_test": 1200, "cost": None, "options": {}},),
)
COMPARISON = Comparison(
    "tiny",
    (OURS, POP, ELSEWHERE),
    (
        PairTest("Pop", "LLMTRSR@recurrent", "mrr@2", Estimate(-0.02, -0.05, 0.01, 0.003), 0.04, 0.08),
        PairTest("LLMTRSR@recurrent", "Pop", "recall@2", Estimate(0.15, 0.1, 0.2, 0.003), 0.001, 0.002),
    ),
    {"recall@1": 1 / 3, "recall@2": 2 / 3, "mrr@2": 0.5},
)


@pytest.fixture
def comparison() -> Comparison:
    return COMPARISON


@pytest.fixture
def renamed() -> Callable[[Comparison, str], Comparison]:
    """A comparison whose first row, groups and all else that users name are called otherwise."""

    def rename(comparison: Comparison, name: str) -> Comparison:
        first, *others = comparison.rows
        named = {"command": name, "versions": {name: 1}}
        changed = replace(
            first,
            label=name,
            groups=tuple(replace(group, name=f"{name} {group.name}") for group in first.groups),
            ablations=tuple(replace(ablation, name=f"{name} {ablation.name}") for ablation in first.ablations),
            results=tuple(
                {**one, **named, "options": {**one["options"], name: name, "epochs": name}} for one in first.results
            ),
        )
        tests = tuple(
            replace(test, **{side: name for side in ("first", "second") if getattr(test, side) == first.label})
            for test in comparison.tests
        )
        return replace(comparison, dataset=name, rows=(changed, *others), tests=tests)

    return rename
