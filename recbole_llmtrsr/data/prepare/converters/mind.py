"""MIND (Wu et al., ACL 2020), official raw files -> atomic files.

A user's sequence is the click history, in click order, followed by the clicked news of the user's impressions by time
(equal times in file order, within an impression as listed). Where a later line's history has further clicks, as in
lines of several weeks, they precede that line's impression, so that no impression follows a click that only a later
line has. ``timestamp`` is the position in that sequence, 0, 1, 2...: MIND gives no time for history clicks, and RecBole
keeps timestamps in float32, where positions are exact up to 2^24 but seconds since 1970 are rounded to 128 s, which
would lose the order. So a split by time across users means nothing here: order events within a user only
(``eval_args: {order: TO, split: {LS: valid_and_test}}``).

Texts keep their quotes, which the atomic format does not define. RecBole's reader (pandas' default quoting) treats a
quote at the start of a field as quoting and stops at a MIND text; with ``quoting=csv.QUOTE_NONE`` it reads all rows.
Where ``load_col`` has no ``item`` it does not open the file, and its catalogue is the clicked news alone.

``from_impression`` is 1 for the clicks of impressions and 0 for the click history. The impressions themselves become
candidate sets (``mind_impressions``). Kept in memory are the click sequences and, at the end, the numbers of all
candidates; the impressions are read in a second pass.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from recbole_llmtrsr.data.candidates.candidate_file import write_candidate_file
from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.atomic import BAD_ID, AtomicFile, atomic_files, atomic_paths, is_list_token, is_token
from recbole_llmtrsr.data.prepare.converters.mind_impressions import (
    N_BEHAVIOR_COLUMNS,
    impression_entries,
    read_impressions,
)
from recbole_llmtrsr.data.prepare.matching import check_match
from recbole_llmtrsr.data.prepare.raw import read_columns, require_files
from recbole_llmtrsr.data.prepare.report import MAX_LOST, Report
from recbole_llmtrsr.errors import UserError

COLUMNS = {
    "inter": ("user_id:token", "item_id:token", "timestamp:float", "from_impression:float"),
    "item": ("item_id:token", "category:token", "subcategory:token", "title:token_seq", "abstract:token_seq"),
}
IMPRESSIONS = "impressions.npz"
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
N_NEWS_COLUMNS = 8
_ENTRIES, _CLICKS = "impression entries", "history entries"
_REMEDY = "give the folder of an unpacked official MIND archive (MINDsmall_train, ...), with behaviors.tsv and news.tsv"


class _Line(NamedTuple):
    """A line of behaviors.tsv, without the news that were not clicked."""

    time: datetime
    number: int
    history: list[str]
    clicked: list[str]


_Behaviors = dict[str, list[_Line]]  # of every user, in order of their first line, the lines in file order


@dataclass
class _Events:
    """Counts of the events that were written.

    Attributes:
        n: events.
        n_history: events of histories.
        n_unknown: events of news without a line.
        items: the different news.
        first_clicks: line number of an impression with a click -> position of its first click in the user's sequence.
    """

    n: int = 0
    n_history: int = 0
    n_unknown: int = 0
    items: set[str] = field(default_factory=set)
    first_clicks: dict[int, int] = field(default_factory=dict)


def convert_mind(source: Path, out: Path, encoding: str = "utf-8", max_lost: float = MAX_LOST) -> Report:
    """Write ``<out>/<name of out>.inter``, ``.item`` and ``.impressions.npz``; ``CONVERTERS`` explains the options.

    ``max_lost`` applies to impression entries and history entries, too.

    Returns:
        Counts. ``users`` have a valid line in behaviors.tsv; ``clicked news`` are the different ones among all events,
        from histories and impressions.

    Raises:
        UserError: a missing file, too many malformed lines, events of other news, or an out folder that cannot be
            written.
    """
    behaviors_path, news_path = require_files(source, ["behaviors.tsv", "news.tsv"], _REMEDY)
    paths = ", ".join(map(str, atomic_paths(out, [*COLUMNS, IMPRESSIONS])))
    report = Report(f"mind: {paths}", encoding=encoding, max_lost=max_lost)
    with atomic_files(out, COLUMNS, [IMPRESSIONS]) as (files, drafts):
        news, n_changed = _convert_news(news_path, files["item"], report)
        behaviors = _read_behaviors(behaviors_path, report)
        events = _write_events(behaviors, files["inter"], news)
        if not events.n:
            raise UserError(f"{behaviors_path} has no click, neither in a history nor in an impression: {_REMEDY}")
        check_match(behaviors_path, news_path, events.n, events.n_unknown, events.items, news, report)
        candidates, candidate_counts = read_impressions(behaviors_path, events.first_clicks, news, encoding)
        write_candidate_file(drafts[IMPRESSIONS], candidates)
    users, n_impressions = behaviors.values(), sum(map(len, behaviors.values()))
    report.counts = {
        "users": len(users),
        "users with an empty history": sum(not any(line.history for line in lines) for lines in users),
        "users without any event (not in .inter)": sum(
            not any(line.history or line.clicked for line in lines) for lines in users
        ),
        "users whose lines differ in history (joined by time)": sum(
            any(line.history != lines[0].history for line in lines) for lines in users
        ),
        "events": events.n,
        "history events": events.n_history,
        "impression clicks": events.n - events.n_history,
        "events of news without a line (kept)": events.n_unknown,
        "impressions": n_impressions,
        "impression entries": report.tallies[behaviors_path.name, _ENTRIES].n,
        "impressions without a click (no candidate set)": n_impressions - len(candidates),
        **candidate_counts,
        "news": len(news),
        "clicked news": len(events.items),
        "clicked news without a line": len(events.items - news),
        "text fields with white space or control characters changed": n_changed,
    }
    return report


def _convert_news(path: Path, file: AtomicFile, report: Report) -> tuple[set[str], int]:
    """Write one row per news item; return the ids and the number of text fields that cleaning changed."""
    news: set[str] = set()
    n_changed = 0
    for number, (item, *texts) in read_columns(path, N_NEWS_COLUMNS, report):
        if not is_list_token(item):
            report.fault(path.name, number, f"news id has a blank, or is {BAD_ID}", "line skipped")
        elif item in news:
            report.fault(path.name, number, "news id seen before", "line skipped, first kept", lost=None)
        else:
            raw = texts[:4]  # category, subcategory, title, abstract
            cleaned = [one_line(text) for text in raw]
            n_changed += sum(old != new for old, new in zip(raw, cleaned, strict=True))
            news.add(item)
            file.write(item, *cleaned)
    return news, n_changed


def _read_behaviors(path: Path, report: Report) -> _Behaviors:
    behaviors: _Behaviors = {}
    for number, (_, user, time_text, history_text, impression_text) in read_columns(path, N_BEHAVIOR_COLUMNS, report):
        if not is_token(user):
            report.fault(path.name, number, f"user id is {BAD_ID}", "line skipped")
            continue
        try:
            time = datetime.strptime(time_text, TIME_FORMAT)
        except ValueError:
            report.fault(path.name, number, "time not as 11/12/2019 2:14:46 PM", "line skipped")
            continue
        history = _tokens(history_text, path, number, report)
        clicked = []
        entries = list(impression_entries(impression_text))
        report.row(path.name, impression_text, _ENTRIES, len(entries))
        for item, is_clicked in entries:
            if item is None:
                wrong = "impression entry not as N123-0 or N123-1"
                report.fault(path.name, number, wrong, "entry skipped", lost=_ENTRIES)
            elif is_clicked:
                clicked.append(sys.intern(item))
        lines = behaviors.setdefault(user, [])
        if lines and lines[-1].history == history:
            history = lines[-1].history  # one list: MINDlarge has 700,000 users with several lines each
        lines.append(_Line(time, number, history, clicked))
    return behaviors


def _tokens(text: str, path: Path, number: int, report: Report) -> list[str]:
    tokens, entries = [], text.split()
    report.row(path.name, text, _CLICKS, len(entries))
    for token in entries:
        if is_token(token):
            # One object per news id: MINDlarge has 700,000 histories.
            tokens.append(sys.intern(token))
        else:
            report.fault(path.name, number, "control character in a history entry", "entry skipped", lost=_CLICKS)
    return tokens


def _write_events(behaviors: _Behaviors, file: AtomicFile, news: set[str]) -> _Events:
    """Write all sequences."""
    events = _Events()
    for user, lines in behaviors.items():
        sequence: list[tuple[str, str]] = []
        known: list[str] | None = None
        for line in sorted(lines, key=lambda line: line.time):
            if line.history is not known:
                known = line.history
                sequence += [(item, "0") for item in _beyond(known, [item for item, _ in sequence])]
            if line.clicked:
                events.first_clicks[line.number] = len(sequence)
                sequence += [(item, "1") for item in line.clicked]
        for position, (item, from_impression) in enumerate(sequence):
            file.write(user, item, str(position), from_impression)
            events.items.add(item)
            events.n_unknown += item not in news
            events.n_history += from_impression == "0"
        events.n += len(sequence)
    return events


def _beyond(history: Iterable[str], known: Iterable[str]) -> list[str]:
    """The clicks of a history beyond the known ones; of a news item clicked twice and known once, one remains.

    >>> _beyond(["n1", "n2", "n1", "n3"], ["n2", "n1"])
    ['n1', 'n3']
    """
    left, found = Counter(known), []
    for item in history:
        if left[item]:
            left[item] -= 1
        else:
            found.append(item)
    return found
