"""What the tables of a comparison have in common: numbers as text, the order of metrics, marks for the best."""

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

# Under tables and in the report: what the numbers do and do not say.
GIVEN_WEIGHTS = (
    "Intervals and p values are over users, given the trained weights; values are averaged over seeds first."
)
ABOUT_GROUPS = (
    f"Groups of fewer than {LEAST_USERS} users have no interval. A history with several targets is grouped by the most"
    " popular of them, and by the longest text."
)
STRANGE_PROMPTS = (
    "What changes nothing is not read. The opposite does not follow: a prompt unlike all that the model was trained on"
    " costs something by being strange, most of all on the builtin backbone, which has read one wording only."
)


def figure(value: float | None, spec: str = ".4f") -> str:
    """A number, or the sign for a missing one.

    >>> figure(0.61078), figure(None), figure(float("nan")), figure(-0.00001, "+.4f")
    ('0.6108', '-', '-', '+0.0000')
    """
    # Added to 0, a rounded -0.00001 loses its sign.
    return MISSING if value is None or not math.isfinite(value) else format(round(value, 4) + 0.0, spec)


def short(value: float) -> str:
    """A number of a smaller kind, without the leading zero.

    >>> short(0.4662), short(-0.0124), short(1), short(-0.0001)
    ('.466', '-.012', '1.000', '.000')
    """
    text = f"{round(value, 3) + 0.0:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def told_seeds(rows: Sequence[Row]) -> str:
    """The seeds of all rows, of each where they differ; empty where none is known.

    >>> row = lambda label, *seeds: Row(label, seeds, {}, (), (), ())
    >>> told_seeds([row("A", 7)]), told_seeds([row("A", 1, 2), row("B", 1), row("C", 1, 2)])
    ('seed 7', 'seeds 1, 2 of A, C; 1 of B')
    """
    labels: dict[str, list[str]] = {}
    for row in rows:
        known = sorted(seed for seed in row.seeds if seed is not None)
        labels.setdefault(", ".join(map(str, known)), []).append(row.label)
    labels.pop("", None)
    if len(labels) == 1:
        (seeds,) = labels
        return f"{'seeds' if ',' in seeds else 'seed'} {seeds}"
    return "seeds " + "; ".join(f"{seeds} of {', '.join(of)}" for seeds, of in labels.items()) if labels else ""


def cell(estimate: Estimate | None, spec: str = ".4f") -> str:
    """Mean, deviation over seeds and interval over users, as far as there are any.

    >>> cell(Estimate(0.4918, 0.466, 0.517, None)), cell(Estimate(0.4918, 0.466, 0.517, 0.004))
    ('0.4918 [.466, .517]', '0.4918 ±.004 [.466, .517]')
    """
    if estimate is None or not math.isfinite(estimate.mean):
        return MISSING
    spread = "" if estimate.spread is None else f"±{short(estimate.spread)}"
    return " ".join(filter(None, (figure(estimate.mean, spec), spread, interval(estimate))))


def interval(estimate: Estimate) -> str:
    """The interval alone; empty where there is none, as for what is no mean over users.

    >>> interval(Estimate(0.5, 0.4, 0.6125, None)), interval(Estimate(0.5, math.nan, math.nan, None))
    ('[.400, .613]', '')
    """
    return f"[{short(estimate.low)}, {short(estimate.high)}]" if math.isfinite(estimate.low) else ""


def costs_of(result: Mapping[str, Any]) -> dict[str, float | None]:
    """What a seed cost, by column; others' programs may not tell. Memory is the most that any stage held."""
    cost = result.get("cost") or {}
    return {
        EPOCHS: result.get("epochs_trained"),
        TRAINING: (result.get("seconds") or {}).get("training"),
        RANKING: (cost.get("evaluation") or {}).get("seconds_per_1000_users"),
        PEAK_MEMORY: peak_memory_gib(cost),
    }


def peak_memory(row: Row) -> str:
    """The most that any stage of any seed held, as text."""
    peaks = [costs_of(result)[PEAK_MEMORY] for result in row.results]
    return figure(max((peak for peak in peaks if peak is not None), default=None), ",.2f")


def metrics_of(comparison: Comparison) -> list[str]:
    """Names of the metrics of any row, in the order in which they were measured."""
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
    """Metrics that chose the epochs of a row, among those that were tested; of other programs it is not known."""
    known = metrics_of(comparison)
    options = [result.get("options") or {} for row in comparison.rows for result in row.results]
    named = dict.fromkeys(str(option.get("valid_metric", "")).lower() for option in options)
    return [name for name in named if name in known]


def correction(comparison: Comparison) -> str:
    """What Holm's correction covers, and which metric can bear a conclusion."""
    primary = chosen_by(comparison)
    told = ", not over metrics"
    if len(primary) == 1:
        told = f": {primary[0]}, which chose the epochs, is the primary one, the others are exploratory"
    return f"Holm's correction is over the pairs of one metric{told}."


def places(rows: Sequence[Mapping[str, Estimate]], metric: str) -> list[int | None]:
    """0 for the best row, 1 for the next, equal means sharing a place; None for rows without the metric."""
    sign = 1 if metric.partition("@")[0] in smaller_metrics else -1
    found = [sign * row[metric].mean if metric in row else math.nan for row in rows]
    steps = sorted({value for value in found if math.isfinite(value)})
    return [steps.index(value) if math.isfinite(value) else None for value in found]
