"""A comparison in few columns, as a terminal shows it; the files have every metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from recbole_llmtrsr.evaluation.comparison.cells import (
    EPOCHS,
    MISSING,
    PEAK_MEMORY,
    RANDOM,
    TRAINING,
    cell,
    costs_of,
    figure,
    main_metric,
    metrics_of,
    short,
)
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Row
from recbole_llmtrsr.evaluation.comparison.tables import best_label, caption
from recbole_llmtrsr.evaluation.comparison.text_table import without_breaks
from recbole_llmtrsr.runtime.screen import wrapped

_GAP, _N_OTHERS = "  ", 3
_WIDELY = 3  # times as many epochs or targets


def screen(comparison: Comparison, width: int) -> str:
    """The primary metric with its intervals, further metrics and costs, differences, ablations, and what to consider.

    Args:
        comparison: whose primary metric is the one that chose the epochs.
        width: columns; metrics and costs that do not fit are left out.
    """
    if not metrics_of(comparison):
        return ""
    metric = main_metric(comparison)
    title = without_breaks(caption(comparison, has_legend=False))
    best = _clipped(best_label(comparison), width // 3)
    parts = [
        f"{title}\n{'-' * min(len(title), width)}\n{_table(comparison, metric, width)}",
        _section(f"{metric} of {best} minus that of, p Holm-corrected", _differences(comparison, metric), width),
        _section(f"change of {metric} with changed prompts", _ablations(comparison, metric), width),
        "\n".join(wrapped("warning: ", without_breaks(text), width) for text in uneven_budgets(comparison)),
    ]
    return "\n\n".join(part for part in parts if part)


def primary_first(comparison: Comparison) -> list[str]:
    """Names of all metrics: the primary one, those with its cut-off, then the others."""
    metric = main_metric(comparison)
    return sorted(
        metrics_of(comparison), key=lambda name: (name != metric, name.partition("@")[2] != metric.partition("@")[2])
    )


def uneven_budgets(comparison: Comparison) -> Iterator[str]:
    """A warning for each budget of which one model had several times as much as another one."""
    epochs = {row.label: costs_of(row.results[0])[EPOCHS] for row in comparison.rows}
    targets = {row.label: row.results[0].get("n_train") for row in comparison.rows}
    for name, budgets in {"epochs": epochs, "training targets": targets}.items():
        known = {label: n for label, n in budgets.items() if n and _has_weights(comparison, label)}
        if len(known) > 1 and max(known.values()) >= _WIDELY * min(known.values()):
            shown = ", ".join(f"{label} {n:,}" for label, n in known.items())
            yield f"the models had different numbers of {name}: {shown}"


def _has_weights(comparison: Comparison, label: str) -> bool:
    """Whether a model is trained at all: Pop counts in one epoch."""
    (row,) = (row for row in comparison.rows if row.label == label)
    return bool((row.results[0].get("weights") or {}).get("trainable", 0) > 1)


def _table(comparison: Comparison, metric: str, width: int) -> str:
    names = primary_first(comparison)[1 : 1 + _N_OTHERS]
    rows = [_cells(row, metric, names) for row in comparison.rows]
    if (chance := comparison.random) is not None:
        rows.append([RANDOM, figure(chance.get(metric)), *(figure(chance.get(name)) for name in names), *[MISSING] * 2])
    marks = {" ± deviation": "±", " [95 % interval]": "["}
    legend = "".join(text for text, mark in marks.items() if any(mark in row[1] for row in rows))
    rows = [[_clipped(row[0], width // 3), *row[1:]] for row in rows]
    columns = list(zip(["model", f"{metric}{legend}", *names, "training", "memory"], *rows))
    # Least important last: the costs stay, metrics beyond the width go.
    while len(columns) > 2 and sum(_widths(columns)) + len(_GAP) * (len(columns) - 1) > width:
        del columns[-3 if len(columns) > 4 else -1]
    widths = _widths(columns)
    return "\n".join(
        _GAP.join([line[0].ljust(widths[0]), line[1].ljust(widths[1]), *map(str.rjust, line[2:], widths[2:])]).rstrip()
        for line in zip(*columns)
    )


def _clipped(label: str, most: int) -> str:
    """A label of at most so many characters, its end kept, which names the variant."""
    return label if len(label) <= most else f"...{label[3 - most :]}"


def _cells(row: Row, metric: str, names: Sequence[str]) -> list[str]:
    costs = [costs_of(result) for result in row.results]
    seconds = [spent for cost in costs if (spent := cost[TRAINING]) is not None]
    peaks = [peak for cost in costs if (peak := cost[PEAK_MEMORY]) is not None]
    means = [figure(row.metrics[name].mean) if name in row.metrics else MISSING for name in names]
    mean_time = f"{sum(seconds) / len(seconds):,.0f} s" if seconds else MISSING
    return [row.label, cell(row.metrics.get(metric)), *means, mean_time, f"{max(peaks):.1f} GiB" if peaks else MISSING]


def _differences(comparison: Comparison, metric: str) -> list[tuple[str, str]]:
    best = best_label(comparison)
    turned = [
        test.seen_from(best) for test in comparison.tests if test.metric == metric and best in (test.first, test.second)
    ]
    return [
        (test.second, f"{cell(test.difference, '+.4f')}, p {'< .001' if test.p_holm < 0.001 else short(test.p_holm)}")
        for test in turned
    ]


def _ablations(comparison: Comparison, metric: str) -> list[tuple[str, str]]:
    several = sum(bool(row.ablations) for row in comparison.rows) > 1
    return [
        (f"{row.label}, {ablation.name}" if several else ablation.name, cell(ablation.metrics[metric], "+.4f"))
        for row in comparison.rows
        for ablation in row.ablations
        if metric in ablation.metrics
    ]


def _section(title: str, pairs: Sequence[tuple[str, str]], width: int) -> str:
    named = [(_clipped(name, width // 2), text) for name, text in pairs]
    widest = max((len(name) for name, _ in named), default=0)
    return _lines([title, *(f"  {name.ljust(widest)}{_GAP}{text}" for name, text in named)]) if named else ""


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(map(without_breaks, texts))


def _widths(columns: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in columns]
