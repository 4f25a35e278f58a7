"""Summaries written by another program or by people, read from JSON lines with one summary each.

In ``{"user_id": "196", "n_events": 25, "summary": "Likes film noir."}``, ``n_events`` is the number of the user's first
events that the summary covers. A history takes the summary of exactly its events, or else the latest earlier one. An
earlier summary is stale but leaks nothing about the target; a summary of more events could leak it and is never used.
Events are counted after the run's filters (``user_inter_num_interval`` ...), so a file is valid only for the filters
under which it was made.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import atomic_write

FORM = '{"user_id": "196", "n_events": 25, "summary": "Likes film noir."}'
MAX_FAULTS = 10  # faulty lines shown; the others usually have the same faults


class Entry(NamedTuple):
    """A user's summary.

    Attributes:
        n_events: number of the user's first events that the summary covers.
        line: line number in the file.
        text: the summary, one line.
    """

    n_events: int
    line: int
    text: str


@dataclass(frozen=True)
class FileSummaries:
    """The checked summaries of a file.

    Attributes:
        by_user: user token -> entries in ascending order of ``n_events``, each number once.
        n_identical: lines that repeat an earlier line.
        n_empty: entries without text.
    """

    by_user: Mapping[str, Sequence[Entry]]
    n_identical: int = 0
    n_empty: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.by_user.values()))

    def find(self, user: str, n_events: int) -> tuple[str, int] | None:
        """Return the summary of a user's first events, or the latest one of fewer events, with its number of events."""
        entries = self.by_user.get(user, ())
        position = bisect_right(entries, n_events, key=attrgetter("n_events"))
        return (entries[position - 1].text, entries[position - 1].n_events) if position else None


def resolve(
    summaries: FileSummaries, histories: Iterable[tuple[int, str, int]]
) -> tuple[dict[int, str], dict[str, int]]:
    """Look up every history's summary.

    Args:
        summaries: of the file.
        histories: (history id, user token, number of events) of each.

    Returns:
        Texts by history id, '' where there is none; and counts. Of histories: ``exact``, ``earlier`` (made from fewer
        events) and ``none``, of which ``only_later`` (there are summaries, all of more events). Of the file's
        summaries: ``unused``. Of users: ``users_without`` any summary, whatever its number of events.
    """
    texts: dict[int, str] = {}
    counts = dict.fromkeys(("exact", "earlier", "none", "only_later", "unused", "users_without"), 0)
    used: set[tuple[str, int]] = set()
    without: set[str] = set()
    for history_id, user, n_events in histories:
        found = summaries.find(user, n_events)
        if found is None:
            texts[history_id] = ""
            counts["none"] += 1
            if user in summaries.by_user:
                counts["only_later"] += 1
            else:
                without.add(user)
            continue
        texts[history_id], made_from = found
        counts["exact" if made_from == n_events else "earlier"] += 1
        used.add((user, made_from))
    return texts, {**counts, "unused": len(summaries) - len(used), "users_without": len(without)}


def read_summaries(path: Path) -> FileSummaries:
    """Read and check a file of summaries, UTF-8 with or without a byte order mark; blank lines are skipped.

    Raises:
        UserError: no such file, no summary in it, or faulty lines, the first ten of them with their numbers.
    """
    by_user: dict[str, dict[int, Entry]] = {}
    faults: list[str] = []
    n_identical = 0
    try:
        with path.open("rb") as file:  # text mode would give no line number for invalid UTF-8
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                try:
                    user, n_events, text = _parse(line, number)
                    first = by_user.setdefault(user, {}).setdefault(n_events, Entry(n_events, number, text))
                    if first.text != text:
                        what = f"user_id {_value(user)} with n_events {n_events}"
                        raise ValueError(f"differs from the summary of line {first.line} for {what}; keep one of them")
                    n_identical += first.line != number
                except ValueError as error:
                    faults.append(f"{path}, line {number}: {error}")
    except OSError as error:
        raise UserError(
            f"the file of summaries {path} cannot be read ({error.strerror}): give a file of lines {FORM}"
        ) from error
    if len(faults) > MAX_FAULTS:
        faults[MAX_FAULTS:] = [f"and {len(faults) - MAX_FAULTS} more faulty lines"]
    if faults:
        raise UserError(faults)
    if not by_user:
        raise UserError(f"the file {path} holds no summary: write one line {FORM} for each summary")
    n_empty = sum(not entry.text for entries in by_user.values() for entry in entries.values())
    return FileSummaries({user: sorted(entries.values()) for user, entries in by_user.items()}, n_identical, n_empty)


def write_summaries(path: Path, rows: Iterable[tuple[str, int, str]]) -> None:
    """Write rows (user token, number of events, text) as ``read_summaries`` reads them; the write is atomic.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(path) as file:
            for user, n_events, text in rows:
                row = {"user_id": user, "n_events": n_events, "summary": text}
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise UserError(f"summaries cannot be written to {path} ({error.strerror}): choose another file") from error


def _parse(line: bytes, number: int) -> tuple[str, int, str]:
    """Parse one line into (user token, number of events, text).

    Raises:
        ValueError: what is wrong with the line.
    """
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("the line is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the line is not JSON ({getattr(error, 'msg', error)}); write {FORM}") from error
    if type(row) is not dict:
        raise ValueError(f"the line must be a JSON object, got {_value(row)}; write {FORM}")
    if missing := [name for name in ("user_id", "n_events", "summary") if name not in row]:
        raise ValueError(f"the line has no {', '.join(missing)}; write {FORM}")
    user, n_events, text = row["user_id"], row["n_events"], row["summary"]
    if type(user) is not str and type(user) is not int:
        raise ValueError(f"user_id must be a string or an integer, got {_value(user)}")
    if type(n_events) is not int or n_events < 1:
        raise ValueError(f"n_events must be an integer >= 1, got {_value(n_events)}")
    if type(text) is not str:
        raise ValueError(f"summary must be a string, got {_value(text)}")
    user = str(user)
    try:
        (user + text).encode()
    except UnicodeEncodeError as error:
        half = f"{error.object[error.start]!a}"
        raise ValueError(f"the line has half of a character ({half}); write UTF-8 without \\u escapes") from error
    return user, n_events, one_line(text)


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
