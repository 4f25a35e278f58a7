"""Estimates as table rows, with marks for the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from recbole_llmtrsr.evaluation.comparison.cells import (
    MISSING,
    RANDOM,
    chance_of_groups,
    figure,
    interval,
    places,
    short,
)
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate, GroupEstimate, PairTest
from recbole_llmtrsr.report.numbers import is_number

LEVEL = 0.05  # of significance


@dataclass(frozen=True)
class Cell:
    """An estimate as text.

    Attributes:
        mean: its number.
        interval: empty without one.
        spread: over seeds; empty with one seed.
        mark: best, second, or empty.
        is_close: a paired test does not tell it from the best.
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
        label: what it is about.
        number: of the comparison's row, which gives its marker; None without one.
        cells: one for each metric.
        n: histories behind it; None where the table says it once for all.
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
