"""Checks that the ids of the events occur among those of the items."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from logging import getLogger
from pathlib import Path

from recbole_llmtrsr.data.prepare.frame_table import FrameTable
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

_MOST_UNKNOWN = 0.5  # beyond it, most items that a model reads are the placeholder
_N_COMPARED = 1000
# How two programs write one id: the first that makes an id of the events one of the items is the likely cause.
_CAUSES: dict[str, Callable[[str], str]] = {
    "a number became a float": lambda name: name.removesuffix(".0"),
    "leading zeros were lost": lambda name: name.lstrip("0"),
    "blanks at an end": str.strip,
    "upper and lower case": str.casefold,
}


def check_match(
    events: Path | FrameTable,
    items: Path | FrameTable,
    n: int,
    n_unknown: int,
    used: AbstractSet[str],
    known: AbstractSet[str],
    report: Report,
) -> None:
    """Refuse events of which most items have no row; warn of fewer.

    Args:
        events: table of the events.
        items: table of the items.
        n: number of events.
        n_unknown: number of events of items without a row.
        used: ids of the events' items.
        known: ids that have a row.
        report: its ``max_lost``, where above a half, is the greatest share of such events.

    Raises:
        UserError: with an id of each file, and the likely cause where there is one.
    """
    if not n_unknown:
        return
    told = (
        f"{n_unknown:,} of {n:,} events in {events.name} are of items that have no row in {items.name}, such as"
        f" {_example(used - known, known, items.name)}"
    )
    most = max(_MOST_UNKNOWN, report.max_lost)
    if n_unknown == n or n_unknown > most * n:
        more = "" if n_unknown == n else f", or accept up to a share of them with --max_lost, above {most:g}"
        raise UserError(f"{told}: write the ids alike in both files, or name other columns{more}")
    getLogger().warning(f"{told}; they have no text")


def _example(unknown: AbstractSet[str], known: AbstractSet[str], file: str) -> str:
    """An unknown id, and the known one that it may stand for, with the likely cause."""
    names = heapq.nsmallest(_N_COMPARED, unknown)
    for cause, change in _CAUSES.items():
        meant = {change(name): name for name in names}
        found = min((name for name in known if change(name) in meant), default=None)
        if found is not None:
            return f"{meant[change(found)]!r}, where {file} has {found!r} ({cause})"
    return f"{names[0]!r}, where {file} has {min(known)!r}" if known else repr(names[0])
