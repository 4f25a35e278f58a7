"""Axes: map values to places, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MOST_TICKS = 7


@dataclass(frozen=True)
class Tick:
    """A mark on an axis and the lines of its text."""

    at: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale from ``low`` to ``high``; its label names the quantity and the unit."""

    label: str
    low: float
    high: float
    ticks: tuple[Tick, ...]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 is the beginning of the axis, 1 its end."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)


def linear_axis(label: str, values: Iterable[float]) -> Axis:
    """An axis with a margin around its values; it need not begin at 0.

    >>> [tick.lines[0] for tick in linear_axis("recall", [0.31, 0.48]).ticks]
    ['0.35', '0.4', '0.45']
    """
    given = list(values)
    low, high = min(given), max(given)
    margin = 0.04 * (high - low) or 0.1 * abs(high) or 0.1
    low, high = low - margin, high + margin
    step = _round_step((high - low) / 6)
    ticks = range(math.ceil(low / step), math.floor(high / step) + 1)
    return Axis(label, low, high, tuple(_tick(n * step) for n in ticks))


def log_axis(label: str, values: Iterable[float]) -> Axis:
    """A logarithmic axis; values must be above 0.

    >>> [tick.lines[0] for tick in log_axis("seconds", [0.7, 1300]).ticks]
    ['0.1', '1', '10', '100', '1,000', '10,000']
    >>> [tick.lines[0] for tick in log_axis("seconds", [3, 14]).ticks]
    ['2', '5', '10', '20']
    """
    given = list(values)
    low, high = min(given), max(given)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    for digits in ((1, 2, 5), (1,)):
        marks = [digit * 10.0**decade for decade in decades for digit in digits]
        first = max(i for i, mark in enumerate(marks) if mark <= low or i == 0)
        last = next(i for i, mark in enumerate(marks) if mark >= high and i > first)
        marks = marks[first : last + 1]
        if len(marks) <= _MOST_TICKS:
            break
    every = math.ceil(len(marks) / _MOST_TICKS)
    return Axis(label, marks[0], marks[-1], tuple(_tick(mark) for mark in marks[::every]), is_log=True)


def category_axis(label: str, categories: Sequence[tuple[str, ...]]) -> Axis:
    """Places 0, 1, 2 ..., each with the lines of its name."""
    return Axis(label, -0.5, len(categories) - 0.5, tuple(Tick(at, lines) for at, lines in enumerate(categories)))


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= least * (1 - 1e-9))


def _tick(value: float) -> Tick:
    return Tick(value, (f"{value:,.10g}",))
