"""Text format of extracts, with counts and titles on one line, and its parser.

An example is ``class: Drama 7, Comedy 4; movie_title: Fargo | Heat``. Separators of the grammar are replaced in terms
and titles before these are counted, so that parsing a formatted digest returns the same digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from recbole_llmtrsr.data.item_text import one_line

MAX_TERM_WORDS = 5
MAX_TITLE_WORDS = 8
MAX_NOTE_WORDS = 40
MAX_WORD_LENGTH = 8  # characters per word, on average
_COUNTED = re.compile(r"(.+?) ([0-9]{1,9})(?:, |$)")


@dataclass(frozen=True)
class Digest:
    """The content of an extract.

    Attributes:
        counts: counts by label and term, with terms from the most to the least informative.
        titles: titles, oldest first.
        note: text in another format, kept unchanged.
    """

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    titles: tuple[str, ...] = ()
    note: str = ""


def label(column: str) -> str:
    """Convert a column name to a label without separators.

    >>> label("price: from; to")
    'price from, to'
    """
    return one_line(column.replace(";", ",").replace(":", " "))


def term(value: str) -> str:
    """Convert a value to a short term without separators that would end it early.

    >>> term("Sealed Unit Parts Co., Inc."), term("3; 5, 7 cm"), term("size 3,")
    ('Sealed Unit Parts Co., Inc.', '3 5 7 cm', 'size 3')
    """
    return re.sub(r"([0-9]),+(?=\s|$)", r"\1", clip(value.replace(";", ","), MAX_TERM_WORDS))


def title(value: str) -> str:
    """Convert a value to a short title without separators.

    >>> title("Trump; the latest | The Daily News of the Day")
    'Trump, the latest / The Daily News of'
    """
    return clip(value.replace(";", ",").replace("|", "/"), MAX_TITLE_WORDS)


def clip(value: str, n_words: int) -> str:
    """Return the first words of a text; a single long word is cut, since some scripts have no spaces between words.

    >>> clip("Gauge Brad Nails, 3/4-Inch", 3), clip("abcdefghijk", 1)
    ('Gauge Brad Nails,', 'abcdefgh')
    """
    limit = n_words * MAX_WORD_LENGTH
    text = " ".join(value.split()[:n_words])
    while len(text) > limit and " " in text:
        text = text.rpartition(" ")[0]
    return text[:limit]


def format_digest(digest: Digest, title_label: str) -> str:
    """Format a digest as one line of text; '' for an empty digest.

    >>> format_digest(Digest({"class": {"Drama": 7, "Comedy": 4}}, ("Fargo", "Heat")), "movie_title")
    'class: Drama 7, Comedy 4; movie_title: Fargo | Heat'
    """
    sections = [digest.note] if digest.note else []
    for name, counts in digest.counts.items():
        if counts:
            sections.append(f"{name}: " + ", ".join(f"{value} {count}" for value, count in counts.items()))
    if digest.titles:
        sections.append(f"{title_label}: " + " | ".join(digest.titles))
    return "; ".join(sections)


def parse_digest(text: str, count_labels: Iterable[str], title_label: str) -> Digest:
    """Parse a line; sections in another format become the note.

    >>> parse_digest("Likes noir; class: Drama 7", ["class"], "title")
    Digest(counts={'class': {'Drama': 7}}, titles=(), note='Likes noir')
    """
    counts: dict[str, dict[str, int]] = {}
    titles: list[str] = []
    notes = []
    labels = set(count_labels)
    for section in one_line(text).split("; "):
        name, _, body = section.partition(": ")
        counted = _parse_counts(body) if name in labels else {}
        if counted:
            counts.setdefault(name, {}).update(counted)
        elif name == title_label and body:
            titles += [value for part in body.split(" | ") if (value := title(part))]
        elif section:
            notes.append(section)
    return Digest(counts, tuple(titles), clip("; ".join(notes), MAX_NOTE_WORDS))


def _parse_counts(body: str) -> dict[str, int]:
    counts = {}
    end = 0
    for match in _COUNTED.finditer(body):
        if match.start() != end:
            return {}
        counts[match[1]] = int(match[2])
        end = match.end()
    return counts if end == len(body) else {}
