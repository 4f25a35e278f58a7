"""The report of a conversion: counts, malformed lines, and the share of rows that may be lost."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llmtrsr.data.prepare.frame_table import FrameTable
from recbole_llmtrsr.errors import UserError

LINES_SHOWN = 10  # of a kind, in the text; `Report.fault_lines` has all
MAX_LOST = 0.05
_BEGINNING = 80  # characters or bytes that an error shows of a line


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
class Tally:
    """Numbers of rows that were read and lost.

    Attributes:
        n: rows, including malformed ones.
        n_lost: malformed rows, which were skipped.
        first_lost: number, fault and beginning of the first of these, for an error.
        row: the current row.
    """

    n: int = 0
    n_lost: int = 0
    first_lost: str = ""
    row: object = ""


@dataclass
class Report:
    """Options of the readers, counts to compare with the literature, and every malformed line of the source.

    Attributes:
        title: first line of the text.
        counts: label -> number, in the order printed.
        notes: label -> number, printed after the counts: unusual findings of the readers.
        faults: (file, fault, action taken) -> lines.
        tallies: (file, unit) -> numbers read and lost.
        encoding: of the source's text files.
        max_lost: greatest share of a file's rows that may be malformed and skipped.
    """

    title: str
    counts: dict[str, int] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str, str], Fault] = field(default_factory=dict)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    encoding: str = field(default="utf-8", kw_only=True)
    max_lost: float = field(default=MAX_LOST, kw_only=True)

    def row(self, file: str, row: object, unit: str = "rows", n: int = 1) -> None:
        """Count a row of a file, or n of another unit within it, before it is parsed."""
        tally = self.tallies.get((file, unit)) or self.tallies.setdefault((file, unit), Tally())
        tally.n += n
        tally.row = row

    def fault(self, file: str, line: int, wrong: str, done: str, lost: str | None = "rows") -> None:
        """Count one malformed piece of a file's line.

        Args:
            file: name of the file.
            line: number, from 1.
            wrong: the fault.
            done: the action taken.
            lost: the unit that is lost, the last one given to `row`; None for no loss, such as a repeated item.
        """
        entry = self.faults.setdefault((file, wrong, done), Fault())
        entry.count += 1
        if not entry.lines or entry.lines[-1] != line:
            entry.lines.append(line)
        tally = self.tallies.get((file, lost)) if lost else None
        if tally:
            tally.n_lost += 1
            tally.first_lost = tally.first_lost or f"line {line:,}, {wrong}: {_beginning(tally.row)}"

    def check_lost(self, path: Path | FrameTable) -> None:
        """Refuse a file that has no row, or of which too much is lost; called when all of it was read."""
        tallies = {unit: tally for (file, unit), tally in self.tallies.items() if file == path.name}
        if not any(tally.n for tally in tallies.values()):
            raise UserError(f"{path} has no row: it is empty, or ends after its header")
        for unit, tally in tallies.items():
            flag = "--max_lost" if isinstance(path, Path) else "max_lost"
            is_nothing_left = unit == "rows" and tally.n_lost == tally.n
            if tally.n_lost > self.max_lost * tally.n or is_nothing_left:
                raise UserError(
                    f"{path}: {tally.n_lost:,} of {tally.n:,} {unit} are malformed and would be lost, more than"
                    f" {flag}={self.max_lost:g} of them. The first is {tally.first_lost}. Mend the"
                    f" {'file' if isinstance(path, Path) else 'DataFrame'}"
                    + ("" if is_nothing_left else f", or accept the loss with a greater {flag}")
                )

    def fault_text(self) -> list[str]:
        """One line per kind: file, fault, count, action taken, the first line numbers."""
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
        """A header and every malformed line with its file, fault and the action taken, separated by tabs."""
        yield "file\tline\twrong\tdone"
        for (file, wrong, done), entry in self.faults.items():
            for line in entry.lines:
                yield f"{file}\t{line}\t{wrong}\t{done}"

    def text(self) -> str:
        """The report as printed."""
        numbers = {**self.counts, **self.notes}
        width = max(map(len, numbers), default=0)
        counts = [f"  {label:<{width}} {number:>12,}" for label, number in numbers.items()]
        faults = [f"  {text}" for text in self.fault_text()] or ["  nothing"]
        return "\n".join([self.title, *counts, "malformed:", *faults])


def _beginning(row: object) -> str:
    """The first characters of a line, or of the values of a parsed row.

    >>> _beginning(b"1,a\\n"), _beginning(["1", "a"])
    ("'1,a'", "'1, a'")
    """
    if isinstance(row, bytes):
        text = row[:_BEGINNING].decode("utf-8", "surrogateescape")
    else:
        text = (", ".join(map(str, row)) if isinstance(row, list) else str(row))[:_BEGINNING]
    # Bytes that could not be decoded are shown as such.
    return re.sub(r"\\udc([0-9a-f]{2})", r"\\x\1", repr(text.rstrip("\r\n")))
