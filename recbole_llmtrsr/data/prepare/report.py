"""What a conversion counted and what it found malformed."""

from __future__ import annotations

from dataclasses import dataclass, field

LINES_SHOWN = 10


@dataclass
class Fault:
    """One kind of malformed input.

    Attributes:
        count: occurrences; a line may hold several.
        lines: numbers, from 1, of the first lines that have it.
    """

    count: int = 0
    lines: list[int] = field(default_factory=list)


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
        if line not in entry.lines and len(entry.lines) < LINES_SHOWN:
            entry.lines.append(line)

    def fault_text(self) -> list[str]:
        """One line per kind: file, kind, count, the first line numbers, what was done."""
        texts = []
        for (file, wrong, done), entry in self.faults.items():
            more = ", ..." if entry.count > len(entry.lines) == LINES_SHOWN else ""
            lines = ", ".join(map(str, entry.lines)) + more
            texts.append(f"{file}: {wrong}: {entry.count:,} ({done}); line {lines}")
        return texts

    def text(self) -> str:
        """The report as printed."""
        width = max(map(len, self.counts), default=0)
        counts = [f"  {label:<{width}} {number:>12,}" for label, number in self.counts.items()]
        faults = [f"  {text}" for text in self.fault_text()] or ["  nothing"]
        return "\n".join([self.title, *counts, "malformed:", *faults])
