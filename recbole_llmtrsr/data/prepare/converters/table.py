"""Any pair of tables, of events and of items -> atomic files.

Both are CSV, TSV, JSON lines or Parquet; options name their columns. Times are numbers, which are kept, or ISO 8601,
which becomes seconds since 1970, to the microsecond; without a zone they are UTC. The first row decides which, and
whether numbers are seconds, milliseconds or smaller units since 1970. Without a column of times the order of the rows
is that of each user's events, and ``timestamp`` the position, 0, 1, 2...

Both files are streamed; kept in memory are the ids of users and items.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.atomic import BAD_ID, AtomicFile, atomic_files, atomic_paths, is_number, is_token
from recbole_llmtrsr.data.prepare.frame_table import FrameTable
from recbole_llmtrsr.data.prepare.matching import check_match
from recbole_llmtrsr.data.prepare.records import read_records
from recbole_llmtrsr.data.prepare.report import MAX_LOST, Report
from recbole_llmtrsr.errors import UserError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_UNITS = {"seconds": 1e8, "milliseconds": 1e11, "microseconds": 1e14, "nanoseconds": 1e17}
_FRACTION = re.compile(r"[.,](\d+)")


def convert_table(
    source: Path,
    out: Path,
    *,
    interactions: str | pd.DataFrame,
    items: str | pd.DataFrame,
    user: str,
    item: str,
    text: Sequence[str],
    time: str | None = None,
    rating: str | None = None,
    items_id: str | None = None,
    encoding: str = "utf-8",
    max_lost: float = MAX_LOST,
) -> Report:
    """Write ``<out>/<name of out>.inter`` and ``.item``, and return counts; ``CONVERTERS`` explains the options.

    Both tables are names of files in the source folder, or DataFrames.

    Raises:
        UserError: a missing file or column, too many malformed rows, items without a text, events of other items, or
            an out folder that cannot be written.
    """
    columns = {
        "inter": ("user_id:token", "item_id:token", *(["rating:float"] if rating else []), "timestamp:float"),
        "item": ("item_id:token", *(f"{name}:token_seq" for name in header_names(text))),
    }
    report = Report("table: " + ", ".join(map(str, atomic_paths(out, columns))), encoding=encoding, max_lost=max_lost)
    of_events, of_items = (
        source / table if isinstance(table, str) else FrameTable(name, table)
        for name, table in (("interactions", interactions), ("items", items))
    )
    with atomic_files(out, columns) as (files, _):
        known, n_empty = _convert_items(of_items, items_id or item, text, files["item"], report)
        wanted = [user, item, *filter(None, (rating, time))]
        per_user, chosen, n_unknown = _convert_events(
            of_events, wanted, time is not None, known, files["inter"], report
        )
        check_match(of_events, of_items, per_user.total(), n_unknown, chosen, known, report)
    report.counts = {
        "users": len(per_user),
        "items with an event": len(chosen),
        "events": per_user.total(),
        "events of items without a row (kept)": n_unknown,
        "items": len(known),
        "items without an event (in .item)": len(known - chosen),
        "items without any text": n_empty,
    }
    return report


def seconds(text: str) -> str | None:
    """A time of ISO 8601 as seconds since 1970; None for another text.

    >>> seconds("1970-01-02"), seconds("1970-01-01T01:00:00.25+01:00"), seconds("1970-01-01 00:00:01Z"), seconds("x")
    ('86400', '0.25', '1', None)
    """
    # Before Python 3.11 neither Z nor fractions of other lengths are understood.
    plain = _FRACTION.sub(lambda digits: f".{digits[1][:6]:0<6}", re.sub(r"[zZ]$", "+00:00", text.strip()))
    try:
        time = datetime.fromisoformat(plain)
    except ValueError:
        return None
    since = (time if time.tzinfo else time.replace(tzinfo=timezone.utc)) - _EPOCH
    return f"{since / timedelta(seconds=1):.6f}".rstrip("0").rstrip(".")


def unit_of(time: float) -> str | None:
    """The unit in which a number is a time between 1973 and the year 5138; None for a number too small or large.

    >>> unit_of(1.6e9), unit_of(1.6e12), unit_of(17)
    ('seconds', 'milliseconds', None)
    """
    return next((unit for unit, least in _UNITS.items() if least <= time < least * 1000), None)


def _number(text: str) -> str | None:
    return text if is_number(text) else None


class _Times:
    """Reads a column of times; the first readable one fixes the form and, of numbers, the unit of all."""

    def __init__(self) -> None:
        self._forms: Sequence[Callable[[str], str | None]] = (_number, seconds)
        self._unit: str | None = None

    def read(self, text: str) -> tuple[str, str]:
        """The time as it is written, and its fault; one of the two is empty."""
        if not text:
            return "", "missing"
        form, time = next(((form, time) for form in self._forms if (time := form(text)) is not None), (None, ""))
        if form is None:
            return "", "no time of the first row's form" if len(self._forms) == 1 else "no number or time of ISO 8601"
        unit = unit_of(float(time))
        if self._unit and unit and unit != self._unit:
            return "", f"in {unit}, in an earlier row in {self._unit}"
        # Numbers among dates, or milliseconds among seconds, would be wrong times.
        self._forms, self._unit = (form,), self._unit or unit
        return time, ""


def _convert_items(
    path: Path | FrameTable, id_column: str, text: Sequence[str], file: AtomicFile, report: Report
) -> tuple[set[str], int]:
    """Write one row per item; return the ids, and how many have no text."""
    known: set[str] = set()
    n_empty = 0
    for number, (item, *values) in read_records(path, [id_column, *text], report, ids=[id_column]):
        if not is_token(item):
            report.fault(path.name, number, f"{id_column} is {BAD_ID}", "row skipped")
        elif item in known:
            report.fault(path.name, number, f"{id_column} seen before", "row skipped, first kept", lost=None)
        else:
            known.add(item)
            cleaned = list(map(one_line, values))
            n_empty += not any(cleaned)
            file.write(item, *cleaned)
    if n_empty == len(known):
        raise UserError(f"no item of {path} has a text in {', '.join(text)}: name other columns with --text")
    return known, n_empty


def _convert_events(
    path: Path | FrameTable, columns: Sequence[str], is_timed: bool, known: set[str], file: AtomicFile, report: Report
) -> tuple[Counter[str], set[str], int]:
    """Write one row per event; return events by user, the items, and how many events are of items without a row."""
    per_user, chosen = Counter[str](), set[str]()
    n_unknown, times = 0, _Times()
    for number, (user, item, *numbers) in read_records(path, columns, report, ids=columns[:2]):
        time, wrong = times.read(numbers.pop()) if is_timed else (str(per_user[user]), "")
        if wrong:
            report.fault(path.name, number, f"{columns[-1]} is {wrong}", "row skipped")
        elif not is_token(user) or not is_token(item):
            report.fault(path.name, number, f"{columns[0]} or {columns[1]} is {BAD_ID}", "row skipped")
        elif not all(map(is_number, numbers)):
            report.fault(path.name, number, f"{columns[2]} is no number", "row skipped")
        else:
            if time.startswith("-"):
                report.notes["events with a negative time (kept)"] += 1
            file.write(user, item, *numbers, time)
            per_user[user] += 1
            chosen.add(item)
            n_unknown += item not in known
    return per_user, chosen, n_unknown


def header_names(columns: Sequence[str]) -> list[str]:
    """Names that RecBole's headers, ``name:type``, can hold."""
    names = [re.sub(r"[\s:]+", "_", column) for column in columns]
    if not names or len({*names, "item_id"}) != len(names) + 1:
        raise UserError(f"--text={','.join(columns)} gives the columns item_id, {', '.join(names)}: name others")
    return names
