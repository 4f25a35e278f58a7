"""One line per way: time, speed, and how much of what arithmetic allows was reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = (
    "| way | batch | tokens | ms per history (least - most) | GFLOP/s | of peak | ours is times faster | ceiling |"
    " reached | as computed | reached | largest difference |"
)
RULE = "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"


@dataclass(frozen=True)
class Line:
    """What was measured of a way.

    Attributes:
        name: of the way.
        size: its batch size.
        tokens: that pass the decoder, padding included.
        seconds: of every repetition.
        operations: with attention counted causally, and as its kernel computes it.
        difference: of its results to ours.
    """

    name: str
    size: int
    tokens: int
    seconds: list[float]
    operations: tuple[int, int]
    difference: float


def table(lines: Sequence[Line], n_histories: int, peak: float) -> None:
    """Print them; ratios, ceilings and shares are against the first.

    Args:
        lines: ours first.
        n_histories: that each worked on.
        peak: GFLOP/s of the device's matrix product.
    """
    first, others = lines[0], lines[1:]
    print(HEADER)
    print(RULE)
    print(_row(first, n_histories, peak, ["1", *[""] * 5]))
    for line in others:
        ratios = [other / one for one, other in zip(first.seconds, line.seconds, strict=True)]
        ratio = statistics.median(ratios)
        cells = [f"{ratio:.2f} ({min(ratios):.2f} - {max(ratios):.2f})"]
        # The same work with another back-end has no ceiling but its own.
        for counted in line.operations:
            ceiling = counted / first.operations[0]
            cells += [f"{ceiling:.2f}", f"{ratio / ceiling:.0%}"] if line.operations != first.operations else ["", ""]
        print(_row(line, n_histories, peak, [*cells, f"{line.difference:.0e}"]))
    print(flush=True)


def _row(line: Line, n_histories: int, peak: float, cells: list[str]) -> str:
    milliseconds = [1000 * t / n_histories for t in line.seconds]
    rate = line.operations[1] / statistics.median(line.seconds) / 1e9
    return (
        f"| {line.name} | {line.size:,} | {line.tokens:,} | {statistics.median(milliseconds):.1f}"
        f" ({min(milliseconds):.1f} - {max(milliseconds):.1f}) | {rate:,.1f} | {rate / peak:.0%} |"
        f" {' | '.join(cells)} |"
    )
