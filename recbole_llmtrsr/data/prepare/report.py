"""What a conversion counted and what it found malformed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

LINES_SHOWN = 10  # of a kind, in the text; `Report.fault_lines` has all


@dataclass
class Fault:
    """One kind of malformed input.

    Attributes:
        count: occurrences; a line may hold several.
        lines: numbers, from 1, of the lines that have it.
    """

    count: int = 0
    lines: array[int] = field(default_factory=lambda: array("q"))


@dataclass
class Report:
    """Counts to compare with the literature, and every malformed piece of the source.

    Attributes:
        title: first line of the text.
        counts: label -> number, in the order printed.
        faults: (file, what is wrong, what was done) -> where.
    """

    title: str
    counts: dict[str, int] = field(default_factory=dict)
    faults: dict[tuple[str, str, str], Fault] = field(default_factory=dict)

    def fault(self, file: str, line: int, wrong: str, done: str) -> None:
        """Count one malformed piece of a file's line."""
        entry = self.faults.setdefault((file, wrong, done), Fault())
        entry.count += 1
        if not entry.lines or entry.lines[-1] != line:
            entry.lines.append(line)

    def fault_text(self) -> list[str]:
        """One line per kind: file, kind, count, the first line numbers, what was done."""
        texts = []
        for (file, wrong, done), entry in self.faults.items():
            more = ", ..." if len(entry.lines) > LINES_SHOWN else ""
            lines = ", ".join(map(str, entry.lines[:LINES_SHOWN])) + more
            texts.append(f"{file}: {wrong}: {entry.count:,} ({done}); line {lines}")
        return texts

    @property
    def is_cut(self) -> bool:
        """Whether `text` leaves line numbers out."""
        return any(len(entry.lines) > LINES_SHOWN for entry in self.faults.values())

    def fault_lines(self) -> Iterator[str]:
        """A header and every malformed line with its file, what is wrong and what was done, separated by tabs."""
        yield "file\tline\twrong\tdone"
        for (file, wrong, done), entry in self.faults.items():
            for line in entry.lines:
                yield f"{file}\t{line}\t{wrong}\t{done}"

    def text(self) -> str:
        """The report as printed."""
        width = max(map(len, self.counts), default=0)
        counts = [f"  {label:<{width}} {number:>12,}" for label, number in self.counts.items()]
        faults = [f"  {text}" for text in self.fault_text()] or ["  nothing"]
        return "\n".join([self.title, *counts, "malformed:", *faults])
