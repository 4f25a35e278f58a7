"""The content of a plot and its places on the canvas; plot.html draws it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recbole_llmtrsr.report.axis import Axis

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP = 44, 10, 8  # margins
STRIP_WIDTH = 120  # of an interval in a table cell
LINE = 13  # height of a line of text
# Paths around (0, 0). Markers, colours (those of Okabe and Ito, for colour-blind readers) and dashes repeat after 7, 8
# and 5 models, which makes 280 combinations.
MARKERS = (
    "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
    "M-3-3h6v6h-6z",
    "M0-4 3.8 2.8h-7.6z",
    "M0-4.2 4.2 0 0 4.2-4.2 0z",
    "M0 4 3.8-2.8h-7.6z",
    "M-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
    "M-4-2.2-2.2-4 0-1.8 2.2-4 4-2.2 1.8 0 4 2.2 2.2 4 0 1.8-2.2 4-4 2.2-1.8 0z",
)
DASHES = ("none", "7 3", "2 2.5", "9 3 2 3", "4 2")
N_COLOURS = 8


@dataclass(frozen=True)
class Point:
    """A value with its interval, None without one; ``text`` describes the point in words."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Series:
    """The points of one row of the comparison.

    Attributes:
        label: of the row.
        number: of the row, which selects colour, marker and dash in every plot; None for random ranking.
        points: in the order of the line through them.
        seeds: one value per seed, drawn small.
        joined: by a line.
    """

    label: str
    number: int | None
    points: tuple[Point, ...]
    seeds: tuple[Point, ...] = ()
    joined: bool = True

    @property
    def marker(self) -> str:
        """Path around (0, 0)."""
        return "" if self.number is None else MARKERS[self.number % len(MARKERS)]

    @property
    def dash(self) -> str:
        """The stroke-dasharray of its line."""
        return "3 4" if self.number is None else DASHES[self.number % len(DASHES)]

    @property
    def colour(self) -> str:
        """Name of its colour in the style sheet."""
        return "random" if self.number is None else f"c{self.number % N_COLOURS}"


@dataclass(frozen=True)
class Plot:
    """Series over two axes, in the order of the legend."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]

    @property
    def floor(self) -> int:
        """Vertical place of the x axis on the canvas, above its texts."""
        n_lines = max((len(tick.lines) for tick in self.x.ticks), default=0) + bool(self.x.label)
        return HEIGHT - LINE * n_lines - 8

    @property
    def description(self) -> str:
        """The content in words, for screen readers."""
        return " ".join(f"{s.label}: {'; '.join(p.text for p in (*s.points, *s.seeds))}." for s in self.series)

    def across(self, x: float) -> str:
        """Horizontal place on the canvas."""
        return f"{LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT):.1f}"

    def down(self, y: float) -> str:
        """Vertical place on the canvas."""
        return f"{self.floor - self.y.place(y) * (self.floor - TOP):.1f}"

    def line(self, points: Iterable[Point]) -> str:
        """The points of an SVG polyline."""
        return " ".join(f"{self.across(p.x)},{self.down(p.y)}" for p in points)


def beside(n_series: int) -> Sequence[float]:
    """Horizontal offsets of the series within a category, so that their intervals do not overlap.

    >>> beside(3)
    [-0.12, 0.0, 0.12]
    """
    step = min(0.12, 0.72 / max(n_series, 1))
    return [round((number - (n_series - 1) / 2) * step, 4) for number in range(n_series)]
