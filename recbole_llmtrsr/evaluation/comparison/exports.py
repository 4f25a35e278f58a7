"""A comparison for other programs: every number as CSV, the table of a paper as LaTeX."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

from recbole_llmtrsr.evaluation.comparison.cells import (
    GIVEN_WEIGHTS,
    RANDOM,
    chance_of_groups,
    costs_of,
    figure,
    metrics_of,
    places,
    short,
)
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate, Row
from recbole_llmtrsr.evaluation.comparison.text_table import escaped, latex_line, one_line, tabular

_COLUMNS = ("label", "seed", "kind", "group", "metric", "mean", "low", "high", "spread", "n", "p", "p_holm")
_FORMULA = ("=", "+", "-", "@")  # how a formula begins in a spreadsheet


def as_csv(comparison: Comparison) -> str:
    """One number a line, in long form.

    Columns: label; seed, or "all" for a mean over all; kind and group (empty for all rows, "probe" and its name for the
    changes under it, "minus" and a label for differences to it, "cost"); metric, or which cost; mean; low and high of
    the 95 % interval over users; spread, the standard deviation over seeds; n, histories behind it; p and p_holm of a
    difference. Empty where none is. A seed's own numbers are those of its result.json, rounded as they are there. A
    text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(map(_plain, line) for line in _lines(comparison))
    return text.getvalue()


def marked_metrics(comparison: Comparison) -> str:
    """Metrics of all rows and of random ranking in LaTeX, with booktabs; the best is bold, the second underlined."""
    metrics = metrics_of(comparison)
    placed = {metric: places([row.metrics for row in comparison.rows], metric) for metric in metrics}
    lines = [latex_line(["Model", *map(escaped, metrics)]), r"\midrule"]
    for i, row in enumerate(comparison.rows):
        cells = [_latex_cell(row.metrics.get(metric), placed[metric][i]) for metric in metrics]
        lines.append(latex_line([escaped(row.label), *cells]))
    if comparison.random is not None:
        chance = [figure(comparison.random.get(metric)) for metric in metrics]
        lines += [r"\midrule", latex_line([RANDOM, *chance])]
    above = (
        "% Needs \\usepackage{booktabs}. Mean, standard deviation over seeds where there are several, and in brackets\n"
        "% the 95 % interval over users. Bold is the best, underlined the second.\n"
        f"% {GIVEN_WEIGHTS}\n"
    )
    return above + tabular(f"l{'r' * len(metrics)}", lines)


def _lines(comparison: Comparison) -> Iterator[list[object]]:
    for row in comparison.rows:
        yield from _lines_of(row)
    n = _n_test(comparison.rows[0].results[0])
    for test in comparison.tests:
        numbers = [*_numbers(test.difference), n, test.p, test.p_holm]
        yield [test.first, "all", "minus", test.second, test.metric, *numbers]
    for metric, mean in (comparison.random or {}).items():
        yield [RANDOM, "all", "", "", metric, mean, "", "", "", n, "", ""]
    for group in chance_of_groups(comparison):
        for metric, mean in group.random.items():
            yield [RANDOM, "all", group.kind, group.name, metric, mean, "", "", "", group.n, "", ""]


def _plain(cell: object) -> object:
    """A cell of one line, of which spreadsheets run nothing.

    >>> _plain("=1+1"), _plain("Pop"), _plain(-0.5)
    ("'=1+1", 'Pop', -0.5)
    """
    if not isinstance(cell, str):
        return cell
    text = one_line(cell)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _lines_of(row: Row) -> Iterator[list[object]]:
    n = _n_test(row.results[0])
    for metric, estimate in row.metrics.items():
        yield [row.label, "all", "", "", metric, *_numbers(estimate), n, "", ""]
    for seed, result in zip(row.seeds, row.results):
        for metric, mean in (result["test_result"] or {}).items():
            yield [row.label, seed, "", "", metric, _empty(mean), "", "", "", _n_test(result), "", ""]
        for what, cost in costs_of(result).items():
            if cost is not None:
                yield [row.label, seed, "cost", "", what, cost, "", "", "", "", "", ""]
    for group in row.groups:
        for metric, estimate in group.metrics.items():
            yield [row.label, "all", group.kind, group.name, metric, *_numbers(estimate), group.n, "", ""]
    for probe in row.probes:
        for metric, estimate in probe.metrics.items():
            yield [row.label, "all", "probe", probe.name, metric, *_numbers(estimate), n, "", ""]


def _n_test(result: Mapping[str, Any]) -> object:
    return _empty(result.get("n_test"))


def _numbers(estimate: Estimate) -> list[object]:
    return [_empty(value) for value in (estimate.mean, estimate.low, estimate.high, estimate.spread)]


def _empty(value: float | None) -> object:
    return "" if value is None or not math.isfinite(value) else value


def _latex_cell(estimate: Estimate | None, place: int | None) -> str:
    if estimate is None or place is None:
        return figure(None)
    mean = {0: r"\textbf{%s}", 1: r"\underline{%s}"}.get(place, "%s") % figure(estimate.mean)
    spread = "" if estimate.spread is None else rf" $\pm${short(estimate.spread)}"
    interval = f" [{short(estimate.low)}, {short(estimate.high)}]" if math.isfinite(estimate.low) else ""
    return mean + (rf" {{\scriptsize{spread}{interval}}}" if spread or interval else "")
