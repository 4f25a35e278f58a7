"""A comparison as tables in Markdown and LaTeX, and all its files but the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from recbole_llmtrsr.evaluation.comparison.cells import (
    ABOUT_GROUPS,
    EPOCHS,
    GIVEN_WEIGHTS,
    MISSING,
    PEAK_MEMORY,
    RANDOM,
    RANKING,
    STRANGE_PROMPTS,
    TRAINING,
    cell,
    chance_of_groups,
    correction,
    costs_of,
    figure,
    main_metric,
    metrics_of,
    peak_memory,
    places,
    seeds_text,
    short,
)
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Row
from recbole_llmtrsr.evaluation.comparison.exports import as_csv, marked_metrics
from recbole_llmtrsr.evaluation.comparison.text_table import TextTable
from recbole_llmtrsr.evaluation.result import write_json, write_text

_COSTS = (EPOCHS, TRAINING, RANKING, PEAK_MEMORY, "candidates")


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write the whole comparison as comparison.json, and its tables as comparison.md, .csv and .tex."""
    write_json(folder / "comparison.json", asdict(comparison))
    write_text(folder / "comparison.md", as_markdown(comparison))
    write_text(folder / "comparison.csv", as_csv(comparison))
    write_text(folder / "comparison.tex", as_latex(comparison))


def as_markdown(comparison: Comparison) -> str:
    """All tables."""
    has_intervals = any(isfinite(metric.low) for row in comparison.rows for metric in row.metrics.values())
    parts = [
        comparison_table(comparison),
        f"{GIVEN_WEIGHTS}\n" if has_intervals or comparison.tests else "",
        _section("Differences", difference_table(comparison).captioned(), correction(comparison)),
        _section("Ablations", ablation_table(comparison).captioned(), STRANGE_PROMPTS),
        _section("Groups", "\n".join(table.markdown() for table in group_tables(comparison)), ABOUT_GROUPS),
    ]
    return "\n".join(part for part in parts if part)


def as_latex(comparison: Comparison) -> str:
    """The same tables, the best of the first marked, and the costs of the rows as a separate table."""
    costs = [[row.label, *_cost(row)] for row in comparison.rows]
    further = [
        (difference_table(comparison), correction(comparison)),
        (ablation_table(comparison), STRANGE_PROMPTS),
        *((table, ABOUT_GROUPS) for table in group_tables(comparison)),
        (TextTable("Costs", ["model", *_COSTS], costs, n_names=1, is_last_text=True), ""),
    ]
    return "\n".join([marked_metrics(comparison), *(table.latex(note) for table, note in further if table.lines)])


def comparison_table(comparison: Comparison) -> str:
    """Test metrics of all rows side by side, with their costs and the hash of their candidates."""
    metrics = metrics_of(comparison)
    lines = [[row.label, *(cell(row.metrics.get(name)) for name in metrics), *_cost(row)] for row in comparison.rows]
    if comparison.random is not None:
        chance = [figure(comparison.random.get(name)) for name in metrics]
        lines.append([RANDOM, *chance, *[MISSING] * 4, _candidates(comparison.rows[0])])
    header = ["model", *metrics, *_COSTS]
    return TextTable(caption(comparison), header, lines, n_names=1, is_last_text=True).captioned()


def difference_table(comparison: Comparison) -> TextTable:
    """The best row, by the metric that chose the epochs, minus every other; all pairs are in comparison.csv."""
    best = best_label(comparison)
    tests: dict[str, dict[str, str]] = {}
    for test in comparison.tests:
        if best in (test.first, test.second):
            turned = test.seen_from(best)
            p = "p<.001" if test.p_holm < 0.001 else f"p={short(test.p_holm)}"
            tests.setdefault(turned.second, {})[test.metric] = f"{cell(turned.difference, '+.4f')} {p}"
    metrics = [name for name in metrics_of(comparison) if any(name in found for found in tests.values())]
    lines = [[other, *(found.get(name, MISSING) for name in metrics)] for other, found in tests.items()]
    caption = (
        f"{best} minus the other: difference [95 % interval over users], p of a paired randomization test,"
        f" Holm-corrected for all pairs of {len(comparison.rows)} models"
    )
    return TextTable(caption, [f"{best} minus", *metrics], lines, n_names=1)


def ablation_table(comparison: Comparison) -> TextTable:
    """The change of the metrics of each ablated row when its prompts are changed."""
    ablations = [(row, ablation) for row in comparison.rows for ablation in row.ablations]
    metrics = [name for name in metrics_of(comparison) if any(name in ablation.metrics for _, ablation in ablations)]
    lines = [
        [row.label, ablation.name, *(cell(ablation.metrics.get(name), "+.4f") for name in metrics)]
        for row, ablation in ablations
    ]
    caption = "Change of each metric when prompts are changed [95 % interval over users]"
    return TextTable(caption, ["model", "ablation", *metrics], lines, n_names=2)


def group_tables(comparison: Comparison) -> list[TextTable]:
    """A table for each kind of group."""
    groups = [(row, group) for row in comparison.rows for group in row.groups]
    metrics = [name for name in metrics_of(comparison) if any(name in group.metrics for _, group in groups)]
    chance = {(group.kind, group.name): group for group in chance_of_groups(comparison)}
    tables = []
    for kind in dict.fromkeys(group.kind for _, group in groups):
        lines = []
        for name in dict.fromkeys(group.name for _, group in groups if group.kind == kind):
            for row, group in groups:
                if (group.kind, group.name) == (kind, name):
                    lines.append([name, row.label, str(group.n), *(cell(group.metrics.get(m)) for m in metrics)])
            if (kind, name) in chance:
                group = chance[kind, name]
                lines.append([name, RANDOM, str(group.n), *(figure(group.random.get(m)) for m in metrics)])
        tables.append(TextTable(f"By {kind}", [kind, "model", "histories", *metrics], lines, n_names=2))
    return tables


def caption(comparison: Comparison, has_legend: bool = True) -> str:
    """What was tested: data set, targets, candidates and seeds; then what the cells of the table hold."""
    first, seeds = comparison.rows[0], seeds_text(comparison.rows)
    several = any(len(row.seeds) > 1 for row in comparison.rows)
    spread = " ± standard deviation over seeds" if several else ""
    legend = spread + (" [95 % interval over users]" if comparison.random is not None else "")
    tested = f"{comparison.dataset}, test, {first.results[0].get('n_test', MISSING)} targets, {_mode(comparison)}"
    parts = (tested, seeds, f"mean{legend}" if has_legend and legend else "")
    return ("; " if ";" in seeds else ", ").join(filter(None, parts))


def _mode(comparison: Comparison) -> str:
    """How the candidates were drawn, as far as any row reports it: other programs may not know."""
    of_rows = [(row.results[0].get("candidates") or {}).get("test", {}) for row in comparison.rows]
    given = "candidates given" if any("hash" in drawn for drawn in of_rows) else "all items"
    return next((f"candidates {drawn['mode']}" for drawn in of_rows if "mode" in drawn), given)


def _cost(row: Row) -> list[str]:
    costs = [costs_of(result) for result in row.results]
    return [
        _mean((cost[EPOCHS] for cost in costs), lambda n: f"{n:.1f}".removesuffix(".0")),
        _mean((cost[TRAINING] for cost in costs), lambda s: f"{s:.0f}"),
        _mean((cost[RANKING] for cost in costs), lambda s: f"{s:.1f}"),
        peak_memory(row),
        _candidates(row),
    ]


def _candidates(row: Row) -> str:
    return str((row.results[0].get("candidates") or {}).get("test", {}).get("hash", "all items"))[:12]


def _mean(values: Iterable[Any], text: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return text(fmean(known)) if known else MISSING


def best_label(comparison: Comparison) -> str:
    """The row with the best value of the metric that chose the epochs."""
    placed = places([row.metrics for row in comparison.rows], main_metric(comparison))
    return next((row.label for row, place in zip(comparison.rows, placed) if place == 0), "")


def _section(title: str, content: str, note: str) -> str:
    return f"## {title}\n\n{content}\n{note}\n" if content else ""
