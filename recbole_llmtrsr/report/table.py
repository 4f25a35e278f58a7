"""Estimates as table rows, with marks for the best, and the costs of the rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_llmtrsr.evaluation.comparison.cells import (
    EPOCHS,
    MISSING,
    PEAK_MEMORY,
    RANDOM,
    RANKING,
    TRAINING,
    chance_of_groups,
    costs_of,
    figure,
    interval,
    peak_memory,
    places,
    short,
)
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate, GroupEstimate, PairTest
from recbole_llmtrsr.report.facts import is_number, look_up

LEVEL = 0.05  # of significance


@dataclass(frozen=True)
class Cell:
    """An estimate as text.

    Attributes:
        mean: its number.
        interval: empty without one.
        spread: over seeds; empty with one seed.
        mark: best, second, or empty.
        is_close: a paired test finds no significant difference to the best.
    """

    mean: str
    interval: str = ""
    spread: str = ""
    mark: str = ""
    is_close: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        label: of the model, or random ranking.
        number: of the comparison's row, which selects its marker; None for random ranking.
        cells: one for each metric.
        n: histories behind it; None where it is the same for the whole table.
    """

    label: str
    number: int | None
    cells: tuple[Cell, ...]
    n: int | None = None


def main_lines(comparison: Comparison, metrics: Sequence[str]) -> list[Line]:
    """The rows of the comparison, and random ranking last."""
    marks = _marks([row.metrics for row in comparison.rows], metrics)
    lines = []
    for number, row in enumerate(comparison.rows):
        cells = []
        for metric in metrics:
            best = next((r.label for r, m in zip(comparison.rows, marks) if m.get(metric) == "best"), None)
            test = None if best is None else find_test(comparison.tests, best, row.label, metric)
            is_close = test is not None and test.p_holm >= LEVEL
            cells.append(_cell(row.metrics.get(metric), marks[number].get(metric, ""), is_close))
        lines.append(Line(row.label, number, tuple(cells)))
    if comparison.random:
        chance = tuple(Cell(figure(comparison.random.get(metric))) for metric in metrics)
        lines.append(Line(RANDOM, None, chance))
    return lines


def group_tables(comparison: Comparison, metrics: Sequence[str]) -> dict[str, dict[str, list[Line]]]:
    """Lines by kind and name of the group, random ranking last; no marks where each model has other histories in it."""
    found: dict[str, dict[str, list[tuple[int, GroupEstimate]]]] = {}
    for number, row in enumerate(comparison.rows):
        for group in row.groups:
            found.setdefault(group.kind, {}).setdefault(group.name, []).append((number, group))
    tables: dict[str, dict[str, list[Line]]] = {}
    for kind, groups in found.items():
        for name, members in groups.items():
            marks = _marks([group.metrics for _, group in members] if kind != "prompt" else [], metrics)
            tables.setdefault(kind, {})[name] = [
                Line(
                    comparison.rows[number].label,
                    number,
                    tuple(_cell(group.metrics.get(m), marks[i].get(m, "") if marks else "") for m in metrics),
                    group.n,
                )
                for i, (number, group) in enumerate(members)
            ]
    for group in chance_of_groups(comparison):
        chance = tuple(Cell(figure(group.random.get(metric))) for metric in metrics)
        tables[group.kind][group.name].append(Line(RANDOM, None, chance, group.n))
    return tables


def find_test(tests: Iterable[PairTest], first: str, second: str, metric: str) -> PairTest | None:
    """The test of two rows, turned so that its difference is first minus second."""
    found = (test for test in tests if test.metric == metric and {test.first, test.second} == {first, second})
    return next((test.seen_from(first) for test in found), None)


def costs(comparison: Comparison) -> dict[str, list[str]]:
    """Columns of the table of costs, a text for each row; without those that no row reports."""
    specs = {EPOCHS: ",.1f", TRAINING: ",.0f", RANKING: ",.1f", "weights": ",.0f", "trained weights": ",.0f"}

    def of_seed(result: Mapping[str, Any]) -> dict[str, Any]:
        weights = {"weights": look_up(result, "weights", "total")}
        return {**costs_of(result), **weights, "trained weights": look_up(result, "weights", "trainable")}

    of_rows = [[of_seed(result) for result in row.results] for row in comparison.rows]
    texts = {
        name: [_over_seeds([cost[name] for cost in seeds], spec) for seeds in of_rows] for name, spec in specs.items()
    }
    texts[PEAK_MEMORY] = [peak_memory(row) for row in comparison.rows]
    return {name: column for name, column in texts.items() if set(column) != {MISSING}}


def _over_seeds(values: Sequence[object], spec: str) -> str:
    """Mean over the seeds, and its standard deviation where they differ."""
    known = [value for value in values if is_number(value)]
    if not known:
        return MISSING
    if len(set(known)) == 1:
        return figure(known[0], ",.0f" if isinstance(known[0], int) else spec)
    return f"{figure(statistics.fmean(known), spec)} ±{figure(statistics.stdev(known), spec)}"


def _marks(rows: Sequence[Mapping[str, Estimate]], metrics: Iterable[str]) -> list[dict[str, str]]:
    """Best and second for each metric, by the mean; equal ones share the mark, and a single row needs none."""
    marks: list[dict[str, str]] = [{} for _ in rows]
    for metric in metrics if len(rows) > 1 else ():
        for mark, place in zip(marks, places(rows, metric)):
            if place in (0, 1):
                mark[metric] = ("best", "second")[place]
    return marks


def _cell(estimate: Estimate | None, mark: str = "", is_close: bool = False) -> Cell:
    if estimate is None or not is_number(estimate.mean):
        return Cell(MISSING)
    spread = "" if estimate.spread is None else f"±{short(estimate.spread)}"
    return Cell(figure(estimate.mean), interval(estimate), spread, mark, is_close)
