"""Do the ids of the events occur among those of the items?"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from logging import getLogger
from pathlib import Path

from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

# Beyond it, most of what a model reads is the placeholder for an item without a text.
_MOST_UNKNOWN = 0.5
_N_COMPARED = 1000
_Change = Callable[[str], str]
# How two programs write one id: the first that makes an id of the events one of the items is the likely cause.
_CAUSES: dict[str, _Change] = {
    "a number became a float": lambda name: name.removesuffix(".0"),
    "leading zeros were lost": lambda name: name.lstrip("0"),
    "blanks at an end": str.strip,
    "upper and lower case": str.casefold,
}


def check_match(
    events: Path, items: Path, n: int, n_unknown: int, used: AbstractSet[str], known: AbstractSet[str], report: Report
) -> None:
    """Refuse events whose items mostly have no row; fewer are reported by a warning.

    Args:
        events: file of the events.
        items: file of the items.
        n: events.
        n_unknown: events of items without a row.
        used: ids of the events' items.
        known: ids that have a row.
        report: has the greatest share that may be lost, where it is above a half.

    Raises:
        UserError: with an id of each file, and the likely cause where it shows.
    """
    if not n_unknown:
        return
    ids, cause = _example(used - known, known)
    told = (
        f"{n_unknown:,} of {n:,} events in {events.name} are of items that have no row in {items.name}, such as"
        f" {ids[0]!r}, where {items.name} has {ids[1]!r}{cause}"
    )
    most = max(_MOST_UNKNOWN, report.max_lost)
    if n_unknown == n or n_unknown > most * n:
        more = "" if n_unknown == n else f", or accept up to a share of them with --max_lost, above {most:g}"
        raise UserError(f"{told}: write the ids alike in both files, or name other columns{more}")
    getLogger().warning(f"{told}; they have no text")


def _example(unknown: AbstractSet[str], known: AbstractSet[str]) -> tuple[tuple[str, str], str]:
    """An unknown id, the known one that it may mean, and why, as a text to append."""
    names = heapq.nsmallest(_N_COMPARED, unknown)
    for cause, change in _CAUSES.items():
        meant = {change(name): name for name in names}
        found = min((name for name in known if change(name) in meant), default=None)
        if found is not None:
            return (meant[change(found)], found), f" ({cause})"
    return (names[0], min(known)), ""
