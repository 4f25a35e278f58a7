"""Runs side by side: means with intervals, differences with tests, groups, ablations; read by tables and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recbole_llmtrsr.evaluation.comparison.estimates import PairTest, differences, estimates, random_metrics
from recbole_llmtrsr.evaluation.comparison.groups import LEAST_USERS, prompt_groups, shared_groups
from recbole_llmtrsr.evaluation.comparison.runs import Run, current_result
from recbole_llmtrsr.evaluation.comparison.shared_rows import SharedRows, check_comparable, share_rows
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate, spread_of

__all__ = [
    "AblationEstimate",
    "Comparison",
    "Estimate",
    "GroupEstimate",
    "PairTest",
    "Row",
    "from_json",
    "make_comparison",
]

_Measured = tuple[dict[str, Estimate], tuple["GroupEstimate", ...], tuple["AblationEstimate", ...]]


@dataclass(frozen=True)
class GroupEstimate:
    """Metrics of a part of the rows.

    Attributes:
        kind: "history length", "target popularity", "target text" or "prompt".
        name: of the group: "cold", "1-4 events" and so on.
        n: histories in it.
        metrics: by name; without an interval where fewer than `LEAST_USERS` users have a value.
        random: exact metrics of random ranking on the group's candidates, which depend on the lengths of the lists and
            their numbers of positives. Empty for groups by prompt, whose rows differ between models.
    """

    kind: str
    name: str
    n: int
    metrics: dict[str, Estimate]
    random: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AblationEstimate:
    """The change of the metrics when prompts are changed: changed minus unchanged."""

    name: str
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class Row:
    """A model, with all its seeds.

    Attributes:
        label: name of the model.
        seeds: in the order of the runs.
        metrics: by name; metrics that are no means over rows, such as coverage, have no interval.
        groups: without empty ones.
        ablations: empty if none were run.
        results: contents of result.json, in the order of the seeds.
    """

    label: str
    seeds: tuple[int, ...]
    metrics: dict[str, Estimate]
    groups: tuple[GroupEstimate, ...]
    ablations: tuple[AblationEstimate, ...]
    results: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Comparison:
    """All that tables and report show: rows in the order of the runs, and the tests of all pairs.

    ``random`` holds the exact metrics of random ranking on these candidates; None where nothing was ranked.
    """

    dataset: str
    rows: tuple[Row, ...]
    tests: tuple[PairTest, ...]
    random: dict[str, float] | None


def make_comparison(runs: Sequence[Run], n_resamples: int) -> Comparison:
    """Compare finished runs; those with one label are the seeds of one row.

    Args:
        runs: at least one.
        n_resamples: bootstrap resamples of the users for every interval, and least number of sign flips for every p.

    Raises:
        UserError: the runs did not rank the same histories among the same candidates.
    """
    check_comparable(runs)
    shared = share_rows(runs)
    measured = {} if shared is None else _measured(shared, n_resamples)
    rows = []
    for label in dict.fromkeys(run.label for run in runs):
        of_label = [run for run in runs if run.label == label]
        results = tuple(run.result for run in of_label)
        metrics, groups, ablations = measured.get(label, ({}, (), ()))
        seeds = tuple(run.seed for run in of_label)
        rows.append(Row(label, seeds, {**_plain_means(results), **metrics}, groups, ablations, results))
    tests = () if shared is None else tuple(differences(shared, n_resamples))
    chance = None if shared is None else random_metrics(shared, np.ones(len(shared.rows), dtype=bool))
    return Comparison(runs[0].result["dataset"], tuple(rows), tests, chance)


def from_json(content: Mapping[str, Any]) -> Comparison:
    """Read the content of comparison.json: ``dataclasses.asdict`` of a comparison, with null for nan."""

    def estimates(found: Mapping[str, Mapping[str, float | None]]) -> dict[str, Estimate]:
        return {name: one(values) for name, values in found.items()}

    def one(values: Mapping[str, float | None]) -> Estimate:
        mean, low, high = (float("nan") if values[n] is None else float(values[n]) for n in ("mean", "low", "high"))  # type: ignore[arg-type]
        return Estimate(mean, low, high, values["spread"])

    rows = tuple(
        Row(
            row["label"],
            tuple(row["seeds"]),
            estimates(row["metrics"]),
            tuple(GroupEstimate(**{**group, "metrics": estimates(group["metrics"])}) for group in row["groups"]),
            tuple(
                AblationEstimate(ablation["name"], estimates(ablation["metrics"]))
                for ablation in row["probes" if "probes" in row else "ablations"]  # the former: of the version before
            ),
            tuple(current_result(result) for result in row["results"]),
        )
        for row in content["rows"]
    )
    tests = tuple(PairTest(**{**test, "difference": one(test["difference"])}) for test in content["tests"])
    return Comparison(content["dataset"], rows, tests, content["random"])


def _measured(shared: SharedRows, n_resamples: int) -> dict[str, _Measured]:
    """Metrics, groups and ablations by label."""
    seeds = [scores.of_seeds for scores in shared.scores.values()]
    all_rows = np.ones(len(shared.rows), dtype=bool)
    whole = estimates(shared, seeds, all_rows, n_resamples)
    of_groups = [
        (group, estimates(shared, seeds, group.rows, n_resamples, LEAST_USERS), random_metrics(shared, group.rows))
        for group in shared_groups(shared.rows)
    ]
    found = {}
    for number, (label, scores) in enumerate(shared.scores.items()):
        groups = [(group, of_labels[number], random) for group, of_labels, random in of_groups]
        for group in prompt_groups(scores.trimmed):
            groups.append((group, estimates(shared, [scores.of_seeds], group.rows, n_resamples, LEAST_USERS)[0], {}))
        changes = estimates(shared, list(scores.changes.values()), all_rows, n_resamples)
        found[label] = (
            whole[number],
            tuple(GroupEstimate(g.kind, g.name, int(g.rows.sum()), metrics, random) for g, metrics, random in groups),
            tuple(map(AblationEstimate, scores.changes, changes)),
        )
    return found


def _plain_means(results: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Means of the seeds' test results, for metrics without values by row."""
    tested = [result["test_result"] for result in results if result["test_result"]]
    names = dict.fromkeys(name for test in tested for name in test)
    nan, found = float("nan"), {}
    for name in names:
        means = [nan if test.get(name) is None else float(test[name]) for test in tested]
        found[name] = Estimate(float(np.mean(means)), nan, nan, spread_of(means))
    return found
