"""Candidate lists as JSON lines: ``{"user": "u1", "n_events": 12, "positives": ["i3"], "negatives": ["i7", "i9"]}``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from recbole_llmtrsr.errors import UserError

Row = tuple[str, int, Sequence[str], Sequence[str]]
_FIELDS = ("user", "n_events", "positives", "negatives")
_N_NAMED = 10


def written(rows: Iterable[Row]) -> Iterator[bytes]:
    """One line per row."""
    for row in rows:
        yield json.dumps(dict(zip(_FIELDS, row, strict=True))).encode() + b"\n"


def parsed(lines: Iterable[bytes]) -> Iterator[Row]:
    """The row of every line.

    Raises:
        UserError: after the last line, with the numbers of malformed lines, or if there was no line.
    """
    faults: list[str] = []
    n_lines = n_faults = 0
    for n_lines, line in enumerate(lines, start=1):
        try:
            yield _row(line)
        except ValueError as fault:
            n_faults += 1
            if n_faults <= _N_NAMED:
                faults.append(f"line {n_lines}: {fault}")
    if n_faults > _N_NAMED:
        faults.append(f"{n_faults - _N_NAMED:,} more lines are malformed")
    if not n_lines:
        faults.append("it is empty: write one row per line")
    if faults:
        raise UserError(faults)


def _row(line: bytes) -> Row:
    """Parse a line; raises a ValueError that describes the error."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(content, dict) or set(content) != set(_FIELDS):
        raise ValueError(f"must be an object with exactly the keys {', '.join(_FIELDS)}")
    user, n_events, *lists = (content[name] for name in _FIELDS)
    if not isinstance(user, str):
        raise ValueError(f"user must be a string, got {user!r:.60}")
    if type(n_events) is not int or not 0 <= n_events < 2**63:  # true is an int to Python
        raise ValueError(f"n_events must be a whole number >= 0, got {n_events!r:.60}")
    for name, items in zip(_FIELDS[2:], lists, strict=True):
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ValueError(f"{name} must be a list of strings, got {items!r:.60}")
    return user, n_events, lists[0], lists[1]
