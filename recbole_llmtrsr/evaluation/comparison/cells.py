"""Shared by all tables of a comparison: numbers as text, the order of metrics, marks for the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recbole.evaluator.register import smaller_metrics

from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate, GroupEstimate, Row
from recbole_llmtrsr.evaluation.comparison.groups import LEAST_USERS
from recbole_llmtrsr.evaluation.cost import peak_memory_gib

RANDOM = "random ranking"
MISSING = "-"
EPOCHS, TRAINING, RANKING = "epochs", "training (s)", "s per 1,000 users"
PEAK_MEMORY = "peak memory (GiB; CPU: whole process)"

# Notes under tables and in the report.
GIVEN_WEIGHTS = (
    "Values are averaged over seeds first. Intervals and p values then cover the variation between users, for fixed"
    " trained weights."
)
ABOUT_GROUPS = (
    f"Groups of fewer than {LEAST_USERS} users have no interval. A history with several targets is grouped by the most"
    " popular of them, and by the longest text."
)
STRANGE_PROMPTS = (
    "If an ablation leaves the metrics unchanged, the model ignores that part of the prompt. The converse does not"
    " hold: a changed prompt is out of distribution, which alone can lower the metrics, above all with the builtin"
    " backbone, which was trained on a single wording."
)


def figure(value: float | None, spec: str = ".4f") -> str:
    """A number, or a dash for a missing one.

    >>> figure(0.61078), figure(None), figure(float("nan")), figure(-0.00001, "+.4f")
    ('0.6108', '-', '-', '+0.0000')
    """
    # Added to 0, a rounded -0.00001 loses its sign.
    return MISSING if value is None or not math.isfinite(value) else format(round(value, 4) + 0.0, spec)


def short(value: float) -> str:
    """A number to three digits, without the leading zero.

    >>> short(0.4662), short(-0.0124), short(1), short(-0.0001)
    ('.466', '-.012', '1.000', '.000')
    """
    text = f"{round(value, 3) + 0.0:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def seeds_text(rows: Sequence[Row]) -> str:
    """The seeds of all rows, or of each row where they differ; empty where none is known.

    >>> row = lambda label, *seeds: Row(label, seeds, {}, (), (), ())
    >>> seeds_text([row("A", 7)]), seeds_text([row("A", 1, 2), row("B", 1), row("C", 1, 2)])
    ('seed 7', 'seeds 1, 2 of A, C; 1 of B')
    """
    labels: dict[str, list[str]] = {}
    for row in rows:
        if known := sorted(seed for seed in row.seeds if seed is not None):
            labels.setdefault(", ".join(map(str, known)), []).append(row.label)
    if len(labels) == 1:
        (seeds,) = labels
        return f"{'seeds' if ',' in seeds else 'seed'} {seeds}"
    return "seeds " + "; ".join(f"{seeds} of {', '.join(of)}" for seeds, of in labels.items()) if labels else ""


def cell(estimate: Estimate | None, spec: str = ".4f") -> str:
    """Mean, deviation over seeds and interval over users, without those that are missing.

    >>> cell(Estimate(0.4918, 0.466, 0.517, None)), cell(Estimate(0.4918, 0.466, 0.517, 0.004))
    ('0.4918 [.466, .517]', '0.4918 ±.004 [.466, .517]')
    """
    if estimate is None or not math.isfinite(estimate.mean):
        return MISSING
    spread = "" if estimate.spread is None else f"±{short(estimate.spread)}"
    return " ".join(filter(None, (figure(estimate.mean, spec), spread, interval(estimate))))


def interval(estimate: Estimate) -> str:
    """The interval alone; empty where there is none, as for metrics that are no means over users.

    >>> interval(Estimate(0.5, 0.4, 0.6125, None)), interval(Estimate(0.5, math.nan, math.nan, None))
    ('[.400, .613]', '')
    """
    return f"[{short(estimate.low)}, {short(estimate.high)}]" if math.isfinite(estimate.low) else ""


def costs_of(result: Mapping[str, Any]) -> dict[str, float | None]:
    """The costs of a seed by column; None where another program reports none. Memory is the peak of all stages."""
    cost = result.get("cost") or {}
    return {
        EPOCHS: result.get("epochs_trained"),
        TRAINING: (result.get("seconds") or {}).get("training"),
        RANKING: (cost.get("evaluation") or {}).get("seconds_per_1000_users"),
        PEAK_MEMORY: peak_memory_gib(cost),
    }


def peak_memory(row: Row) -> str:
    """The peak memory of all stages and seeds, as text."""
    peaks = [costs_of(result)[PEAK_MEMORY] for result in row.results]
    return figure(max((peak for peak in peaks if peak is not None), default=None), ",.2f")


def metrics_of(comparison: Comparison) -> list[str]:
    """Names of all rows' metrics, in the order in which they were measured."""
    return list(dict.fromkeys(name for row in comparison.rows for name in row.metrics))


def chance_of_groups(comparison: Comparison) -> list[GroupEstimate]:
    """The groups whose random ranking is known, each once."""
    known: dict[tuple[str, str], GroupEstimate] = {}
    for row in comparison.rows:
        for group in row.groups:
            if group.random:
                known.setdefault((group.kind, group.name), group)
    return list(known.values())


def chosen_by(comparison: Comparison) -> list[str]:
    """The tested metrics by which rows chose their epochs; other programs report none."""
    known = metrics_of(comparison)
    options = [result.get("options") or {} for row in comparison.rows for result in row.results]
    named = dict.fromkeys(str(option.get("valid_metric", "")).lower() for option in options)
    return [name for name in named if name in known]


def main_metric(comparison: Comparison) -> str:
    """The primary metric: the one that chose the epochs, or the first where no row reports it; '' without metrics."""
    return next(iter([*chosen_by(comparison), *metrics_of(comparison)]), "")


def correction(comparison: Comparison) -> str:
    """States what Holm's correction covers, and which metric is the primary one."""
    primary, scope = chosen_by(comparison), ", not over metrics"
    if len(primary) == 1:
        scope = f": {primary[0]}, which chose the epochs, is the primary one, the others are exploratory"
    return f"Holm's correction is over the pairs of one metric{scope}."


def places(rows: Sequence[Mapping[str, Estimate]], metric: str) -> list[int | None]:
    """The place of each row from 0, the best; equal means share one. None for rows without the metric."""
    sign = 1 if metric.partition("@")[0] in smaller_metrics else -1
    found = [sign * row[metric].mean if metric in row else math.nan for row in rows]
    steps = sorted({value for value in found if math.isfinite(value)})
    return [steps.index(value) if math.isfinite(value) else None for value in found]
