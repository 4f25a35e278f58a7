"""Numbers as text, with the digits of the tables in Markdown."""

from __future__ import annotations

import math
from typing import TypeGuard

from recbole_llmtrsr.evaluation.comparison.cells import short
from recbole_llmtrsr.evaluation.comparison.comparison import Estimate


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value can be drawn: a result.json may hold null, and an estimate nan."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def interval(estimate: Estimate) -> str:
    """The interval alone; empty where there is none, as for what is no mean over users.

    >>> interval(Estimate(0.5, 0.4, 0.6125, None)), interval(Estimate(0.5, float("nan"), float("nan"), None))
    ('[.400, .613]', '')
    """
    ends = (estimate.low, estimate.high)
    return f"[{', '.join(map(short, ends))}]" if all(map(is_number, ends)) else ""
