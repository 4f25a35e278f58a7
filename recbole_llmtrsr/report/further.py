"""Tests of the same models on other candidate sets, to which the page of a comparison links."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.cells import MISSING
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, from_json
from recbole_llmtrsr.evaluation.comparison.runs import ALSO
from recbole_llmtrsr.report.meanings import mode_of_test, of_mode
from recbole_llmtrsr.report.table import Cell, main_lines


@dataclass(frozen=True)
class Further:
    """A comparison of the same runs in another candidate mode.

    Attributes:
        name: of its folder.
        link: to its page, from the page of the comparison; empty where it has none.
        comparison: of the same rows.
    """

    name: str
    link: str
    comparison: Comparison


@dataclass(frozen=True)
class Column:
    """One candidate mode in the table of all of them.

    Attributes:
        mode: its name.
        link: to its page; empty for the page itself.
        n: test targets, as text.
        meaning: which negatives they have; None where that is not known.
        cells: one for each row of the comparison, and random ranking's last.
    """

    mode: str
    link: str
    n: str
    meaning: str | None
    cells: tuple[Cell, ...]


def further_tests(folder: Path, comparison: Comparison, page_name: str) -> list[Further]:
    """Comparisons in ``also/*/comparison.json`` with the data set, rows, seeds and options of this one.

    Those of other rows, which an earlier run may have left in the folder, are ignored.

    Raises:
        UserError: a file cannot be read.
    """
    found = []
    for path in sorted((folder / ALSO).glob("*/comparison.json")):
        try:
            other = from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"report: {path} cannot be read as a comparison ({error}): remove it") from error
        if _runs(other) == _runs(comparison):
            has_page = path.with_name(page_name).is_file()
            link = quote(f"{ALSO}/{path.parent.name}/{page_name}") if has_page else ""
            found.append(Further(path.parent.name, link, other))
    return found


def columns(comparison: Comparison, further: Sequence[Further], metric: str) -> list[Column]:
    """This test and the further ones side by side, by one metric; empty where there are none."""
    if not further:
        return []
    tests = [Further(MISSING, "", comparison), *further]
    return [_column(test, metric, [row.label for row in comparison.rows]) for test in tests]


def _column(test: Further, metric: str, labels: Sequence[str]) -> Column:
    mode, lines = mode_of_test(test.comparison), main_lines(test.comparison, [metric])
    by_label = {None if line.number is None else line.label: line.cells[0] for line in lines}  # None: random ranking
    sizes = [result.get("n_test") for row in test.comparison.rows for result in row.results]
    n = next((f"{size:,}" for size in sizes if size is not None), MISSING)
    cells = (*(by_label[label] for label in labels), by_label.get(None, Cell(MISSING)))
    return Column(mode or test.name, test.link, n, of_mode(mode), cells)


def _runs(comparison: Comparison) -> tuple[str, dict[str, Any]]:
    """The identity of a comparison's runs: a test among other candidates has all options of its run."""
    rows = {row.label: (row.seeds, [result.get("options") for result in row.results]) for row in comparison.rows}
    return comparison.dataset, rows
