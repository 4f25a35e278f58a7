"""Table with one line per method: time, speed, and the share of the arithmetic ceiling that it reaches."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.prompts import Prompts
from common.timing import spread
from common.ways import Way

from recbole_llmtrsr.engine.operations import OperationCosts

HEADER = (
    "| way | batch | tokens | ms per history (least - most) | GFLOP/s | of peak | ours is times faster | ceiling |"
    " reached | as computed | reached | largest difference |"
)
RULE = "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"


@dataclass(frozen=True)
class Line:
    """Measurements of a method.

    Attributes:
        name: name of the method.
        size: batch size.
        tokens: tokens that pass through the decoder, including padding.
        seconds: seconds of every repetition.
        operations: operations with causal attention, and with attention as the kernel computes it.
        difference: largest difference of its results from ours.
    """

    name: str
    size: int
    tokens: int
    seconds: list[float]
    operations: tuple[int, int]
    difference: float


def lines_of(
    ways: Sequence[Way],
    prompts: Prompts,
    sizes: Mapping[str, int],
    seconds: Mapping[str, list[float]],
    costs: OperationCosts,
    differences: Mapping[str, float],
) -> list[Line]:
    """Combine the measurements of every method with the operations of its work on the prompts."""
    lines = []
    for way in ways:
        size = sizes[way.name]
        causal, dense = (way.work(prompts, size, counted) for counted in (False, True))
        operations = (costs.operations(causal), costs.operations(dense))
        lines.append(Line(way.name, size, causal.tokens, seconds[way.name], operations, differences[way.name]))
    return lines


def table(lines: Sequence[Line], n_histories: int, peak: float) -> None:
    """Print the table; ratios, ceilings and shares are relative to the first line.

    Args:
        lines: measurements, ours first.
        n_histories: number of histories that each method processed.
        peak: GFLOP/s of the device's matrix products.
    """
    first, others = lines[0], lines[1:]
    print(HEADER)
    print(RULE)
    print(_row(first, n_histories, peak, ["1", *[""] * 5]))
    for line in others:
        ratios = [other / one for one, other in zip(first.seconds, line.seconds, strict=True)]
        ratio = statistics.median(ratios)
        cells = [spread(ratios, 2)]
        # A back-end with the same work has no ceiling.
        for counted in line.operations:
            ceiling = counted / first.operations[0]
            cells += [f"{ceiling:.2f}", f"{ratio / ceiling:.0%}"] if line.operations != first.operations else ["", ""]
        print(_row(line, n_histories, peak, [*cells, f"{line.difference:.0e}"]))
    print(flush=True)


def _row(line: Line, n_histories: int, peak: float, cells: list[str]) -> str:
    milliseconds = [1000 * t / n_histories for t in line.seconds]
    rate = line.operations[1] / statistics.median(line.seconds) / 1e9
    return (
        f"| {line.name} | {line.size:,} | {line.tokens:,} | {spread(milliseconds, 1)} | {rate:,.1f} |"
        f" {rate / peak:.0%} | {' | '.join(cells)} |"
    )
