"""Runs side by side: means with intervals, differences with tests, groups, ablations; what tables and report read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from recbole_llmtrsr.evaluation.comparison.estimates import PairTest, differences, estimates, random_metrics
from recbole_llmtrsr.evaluation.comparison.groups import LEAST_USERS, prompt_groups, shared_groups
from recbole_llmtrsr.evaluation.comparison.runs import Run, load_runs
from recbole_llmtrsr.evaluation.comparison.shared_rows import SharedRows, check_comparable, share_rows
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate, spread_of

__all__ = [
    "AblationEstimate",
    "Comparison",
    "Estimate",
    "GroupEstimate",
    "PairTest",
    "Row",
    "Run",
    "from_json",
    "load_runs",
    "make_comparison",
    "to_json",
]


@dataclass(frozen=True)
class GroupEstimate:
    """Metrics of a part of the rows.

    Attributes:
        kind: "history length", "target popularity", "target text" or "prompt".
        name: of the group: "cold", "1-4 events" and so on.
        n: histories in it.
        metrics: by name; without an interval where fewer than `LEAST_USERS` users have one.
        random: exact metrics of random ranking on their candidates; lists of other lengths and with other numbers of
            positives make it another in every group. Empty for groups by prompt, which are other rows in every model.
    """

    kind: str
    name: str
    n: int
    metrics: dict[str, Estimate]
    random: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AblationEstimate:
    """What changed prompts did to the metrics: changed minus unchanged."""

    name: str
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class Row:
    """A model, with all its seeds.

    Attributes:
        label: its name.
        seeds: in the order of the runs.
        metrics: by name; those that are no means over rows (coverage and the like) have no interval.
        groups: without empty ones.
        ablations: none if it was not ablated.
        results: content of result.json, by seed.
    """

    label: str
    seeds: tuple[int, ...]
    metrics: dict[str, Estimate]
    groups: tuple[GroupEstimate, ...]
    ablations: tuple[AblationEstimate, ...]
    results: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that tables and report tell.

    Attributes:
        dataset: name.
        rows: in the order of the runs.
        tests: of all pairs.
        random: exact metrics of random ranking on these candidates; None where nothing was ranked.
    """

    dataset: str
    rows: tuple[Row, ...]
    tests: tuple[PairTest, ...]
    random: dict[str, float] | None


def make_comparison(runs: Sequence[Run], n_resamples: int) -> Comparison:
    """Compare finished runs; those with one label are the seeds of one row.

    Args:
        runs: at least one.
        n_resamples: of the users behind every interval, and the least number of sign flips behind every p.

    Raises:
        UserError: they did not rank the same histories among the same candidates.
    """
    check_comparable(runs)
    shared = share_rows(runs)
    rows = {}
    for label in dict.fromkeys(run.label for run in runs):
        own = [run for run in runs if run.label == label]
        results = tuple(run.result for run in own)
        rows[label] = Row(label, tuple(run.seed for run in own), _plain_means(results), (), (), results)
    tests: tuple[PairTest, ...] = ()
    if shared is not None:
        for label, measured in _measured(shared, n_resamples).items():
            metrics = {**rows[label].metrics, **measured.metrics}
            rows[label] = replace(rows[label], metrics=metrics, groups=measured.groups, ablations=measured.ablations)
        tests = tuple(differences(shared, n_resamples))
    chance = None if shared is None else random_metrics(shared, np.ones(len(shared.rows), dtype=bool))
    return Comparison(runs[0].result["dataset"], tuple(rows.values()), tests, chance)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Content of comparison.json; nan, which JSON does not know, is for ``write_json`` to make null."""
    return asdict(comparison)


def from_json(content: Mapping[str, Any]) -> Comparison:
    """What ``to_json`` made of it."""

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
            tuple(AblationEstimate(ablation["name"], estimates(ablation["metrics"])) for ablation in row["ablations"]),
            tuple(row["results"]),
        )
        for row in content["rows"]
    )
    tests = tuple(PairTest(**{**test, "difference": one(test["difference"])}) for test in content["tests"])
    return Comparison(content["dataset"], rows, tests, content["random"])


class _Measured(NamedTuple):
    metrics: dict[str, Estimate]
    groups: tuple[GroupEstimate, ...]
    ablations: tuple[AblationEstimate, ...]


def _measured(shared: SharedRows, n_resamples: int) -> dict[str, _Measured]:
    """All estimates, by label."""
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
        found[label] = _Measured(
            whole[number],
            tuple(GroupEstimate(g.kind, g.name, int(g.rows.sum()), metrics, random) for g, metrics, random in groups),
            tuple(map(AblationEstimate, scores.changes, changes)),
        )
    return found


def _plain_means(results: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Means of the seeds' test results, for metrics of which no value by row is known."""
    tested = [result["test_result"] for result in results if result["test_result"]]
    names = dict.fromkeys(name for test in tested for name in test)
    nan, found = float("nan"), {}
    for name in names:
        means = [nan if test.get(name) is None else float(test[name]) for test in tested]
        found[name] = Estimate(float(np.mean(means)), nan, nan, spread_of(means))
    return found
