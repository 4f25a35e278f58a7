"""A comparison for other programs: every number as CSV, the main table as LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

import pandas as pd

from recbole_llmtrsr.evaluation.comparison.cells import (
    GIVEN_WEIGHTS,
    RANDOM,
    chance_of_groups,
    costs_of,
    figure,
    interval,
    metrics_of,
    places,
    short,
)
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate, Row
from recbole_llmtrsr.evaluation.comparison.text_table import escaped, tabular, without_breaks

_COLUMNS = ("label", "seed", "kind", "group", "metric", "mean", "low", "high", "spread", "n", "p", "p_holm")
_FORMULA = ("=", "+", "-", "@")  # how a formula begins in a spreadsheet


def as_csv(comparison: Comparison) -> str:
    """One number per line, in long form; cells without a value are empty.

    Columns: label; seed, or "all" for the mean over seeds; kind and group (empty for all rows, "ablation" and its name
    for its changes, "minus" and a label for differences to it, "cost"); metric, or the name of a cost; mean; low and
    high of the 95 % interval over users; spread, the standard deviation over seeds; n, the number of histories; p and
    p_holm of a difference. The numbers of single seeds are rounded as in their result.json. A text that a spreadsheet
    would take for a formula gets a leading apostrophe.
    """
    lines = [{name: plain(cell) for name, cell in line.items()} for line in _lines(comparison)]
    return str(pd.DataFrame(lines, columns=_COLUMNS, dtype=object).to_csv(index=False, lineterminator="\n"))


def marked_metrics(comparison: Comparison) -> str:
    """Metrics of all rows and of random ranking in LaTeX, with booktabs; the best is bold, the second underlined."""
    metrics = metrics_of(comparison)
    placed = {metric: places([row.metrics for row in comparison.rows], metric) for metric in metrics}
    lines = [
        [escaped(row.label), *(_latex_cell(row.metrics.get(metric), placed[metric][i]) for metric in metrics)]
        for i, row in enumerate(comparison.rows)
    ]
    if comparison.random is not None:
        lines.append([f"\\midrule\n{RANDOM}", *(figure(comparison.random.get(metric)) for metric in metrics)])
    frame = pd.DataFrame(lines, columns=["Model", *map(escaped, metrics)])
    above = (
        "% Needs \\usepackage{booktabs}. Mean, standard deviation over seeds where there are several, and in brackets\n"
        "% the 95 % interval over users. Bold is the best, underlined the second.\n"
        f"% {GIVEN_WEIGHTS}\n"
    )
    return above + tabular(frame, f"l{'r' * len(metrics)}")


def _lines(comparison: Comparison) -> Iterator[dict[str, object]]:
    for row in comparison.rows:
        yield from _lines_of(row)
    n = comparison.rows[0].results[0].get("n_test")
    for t in comparison.tests:
        pair = {"label": t.first, "kind": "minus", "group": t.second, "p": t.p, "p_holm": t.p_holm}
        yield {**pair, "n": n, **_mean(t.metric, t.difference)}
    for metric, mean in (comparison.random or {}).items():
        yield {"label": RANDOM, "seed": "all", "metric": metric, "mean": mean, "n": n}
    for group in chance_of_groups(comparison):
        of_group = {"label": RANDOM, "seed": "all", "kind": group.kind, "group": group.name, "n": group.n}
        yield from ({**of_group, "metric": metric, "mean": mean} for metric, mean in group.random.items())


def plain(cell: object) -> object:
    """A cell on one line that no spreadsheet runs as a formula; empty for nan and infinity.

    >>> plain("=1+1"), plain("Pop"), plain(-0.5), plain(math.inf)
    ("'=1+1", 'Pop', -0.5, None)
    """
    if not isinstance(cell, str):
        return None if isinstance(cell, float) and not math.isfinite(cell) else cell
    text = without_breaks(cell)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _lines_of(row: Row) -> Iterator[dict[str, object]]:
    n = row.results[0].get("n_test")
    for metric, estimate in row.metrics.items():
        yield {"label": row.label, "n": n, **_mean(metric, estimate)}
    for seed, result in zip(row.seeds, row.results):
        of_seed = {"label": row.label, "seed": seed}
        for metric, mean in (result.get("test_result") or {}).items():
            yield {**of_seed, "metric": metric, "mean": mean, "n": result.get("n_test")}
        for what, cost in costs_of(result).items():
            if cost is not None:
                yield {**of_seed, "kind": "cost", "metric": what, "mean": cost}
    parts = [
        *((group.kind, group.name, group.n, group.metrics) for group in row.groups),
        *(("ablation", ablation.name, n, ablation.metrics) for ablation in row.ablations),
    ]
    for kind, name, n_rows, metrics in parts:
        for metric, estimate in metrics.items():
            yield {"label": row.label, "kind": kind, "group": name, "n": n_rows, **_mean(metric, estimate)}


def _mean(metric: str, estimate: Estimate) -> dict[str, object]:
    return {"seed": "all", "metric": metric, **asdict(estimate)}


def _latex_cell(estimate: Estimate | None, place: int | None) -> str:
    if estimate is None or place is None:
        return figure(None)
    mean = {0: r"\textbf{%s}", 1: r"\underline{%s}"}.get(place, "%s") % figure(estimate.mean)
    spread = "" if estimate.spread is None else rf"$\pm${short(estimate.spread)}"
    beside = " ".join(filter(None, (spread, interval(estimate))))
    return mean + (rf" {{\scriptsize {beside}}}" if beside else "")
