"""What the rows of a comparison cost, over their seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from recbole_llmtrsr.evaluation.comparison.cells import (
    EPOCHS,
    MISSING,
    PEAK_MEMORY,
    RANKING,
    TRAINING,
    costs_of,
    figure,
    peak_memory,
)
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Row
from recbole_llmtrsr.report.facts import look_up
from recbole_llmtrsr.report.numbers import is_number

OfResult = Callable[[Mapping[str, Any]], Any]


def costs(comparison: Comparison) -> dict[str, list[str]]:
    """Columns of the table of costs, a text for each row; those that nobody knows are left out."""
    columns: dict[str, tuple[OfResult, str]] = {
        EPOCHS: (lambda result: costs_of(result)[EPOCHS], ",.1f"),
        TRAINING: (lambda result: costs_of(result)[TRAINING], ",.0f"),
        RANKING: (lambda result: costs_of(result)[RANKING], ",.1f"),
        "weights": (lambda result: look_up(result, "weights", "total"), ",.0f"),
        "trained weights": (lambda result: look_up(result, "weights", "trainable"), ",.0f"),
    }
    texts = {name: [_over_seeds(row, *column) for row in comparison.rows] for name, column in columns.items()}
    texts[PEAK_MEMORY] = [peak_memory(row) for row in comparison.rows]
    return {name: column for name, column in texts.items() if set(column) != {MISSING}}


def _over_seeds(row: Row, of_result: OfResult, spec: str) -> str:
    """Mean over the seeds, and its standard deviation where they differ."""
    known = [value for value in map(of_result, row.results) if is_number(value)]
    if not known:
        return MISSING
    if len(set(known)) == 1:
        return figure(known[0], ",.0f" if isinstance(known[0], int) else spec)
    return f"{figure(statistics.fmean(known), spec)} ±{figure(statistics.stdev(known), spec)}"
