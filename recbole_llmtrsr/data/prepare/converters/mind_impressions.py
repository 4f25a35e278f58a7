"""MIND's impressions as candidate sets: the news shown to the user, clicked or not, after all earlier clicks.

One row per impression with a click: the user, the position of the impression's first click in the user's sequence (so
that the whole history precedes the impression), the clicked news and the others. News that an impression lists more
than once counts once, as clicked if any of its entries is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile
from recbole_llmtrsr.data.prepare.atomic import is_token
from recbole_llmtrsr.data.prepare.raw import read_columns
from recbole_llmtrsr.data.prepare.report import Report

N_BEHAVIOR_COLUMNS = 5


def impression_entries(text: str) -> Iterator[tuple[str | None, bool]]:
    """Each entry's news and whether it was clicked; None for a malformed entry.

    >>> list(impression_entries("N1-0 N2-1 N3"))
    [('N1', False), ('N2', True), (None, False)]
    """
    for entry in text.split():
        item, _, label = entry.rpartition("-")
        yield (item, label == "1") if label in ("0", "1") and is_token(item) else (None, False)


def read_impressions(
    path: Path, first_clicks: Mapping[int, int], news: AbstractSet[str], encoding: str = "utf-8"
) -> tuple[CandidateFile, dict[str, int]]:
    """Read the candidate sets of behaviors.tsv.

    Args:
        path: behaviors.tsv.
        first_clicks: line number of an impression with a click -> position of its first click in the user's sequence.
        news: ids that have a line in news.tsv.
        encoding: of the file.

    Returns:
        the candidates, and counts of unusual ones.
    """
    counts = dict.fromkeys(
        (
            "impressions with several clicks",
            "impressions with nothing but clicks",
            "impressions whose clicks are the user's first events (no history)",
            "impression entries repeated within an impression (one kept)",
            "news clicked and not clicked in one impression (clicked taken)",
            "candidates of news without a line (kept)",
        ),
        0,
    )
    several, only_clicks, no_history, repeated, contradictory, unknown = counts

    def rows() -> Iterator[tuple[str, int, list[str], list[str]]]:
        # Its faults were reported when the clicks were read.
        unreported = Report("", encoding=encoding, max_lost=1)
        for number, (_, user, _, _, text) in read_columns(path, N_BEHAVIOR_COLUMNS, unreported):
            if number not in first_clicks:
                continue
            entries = [(item, is_clicked) for item, is_clicked in impression_entries(text) if item is not None]
            distinct = dict.fromkeys(entries)
            clicked = [item for item, is_clicked in distinct if is_clicked]
            others = [item for item, is_clicked in distinct if not is_clicked and (item, True) not in distinct]
            counts[several] += len(clicked) > 1
            counts[only_clicks] += not others
            counts[no_history] += first_clicks[number] == 0
            counts[repeated] += len(entries) - len(distinct)
            counts[contradictory] += len(distinct) - len(clicked) - len(others)
            counts[unknown] += sum(item not in news for item in (*clicked, *others))
            yield user, first_clicks[number], clicked, others

    candidates = CandidateFile.from_rows(rows())
    return candidates, counts
