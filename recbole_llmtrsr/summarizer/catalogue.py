"""What the columns of a catalogue are good for in an extract: counting, quoting or comparing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from recbole_llmtrsr.data.item_text import Item, ItemText

ColumnKind = Literal["terms", "values", "decades", "text", "constant"]

MAX_VOCABULARY = 200  # terms of a closed vocabulary such as genres; titles of 500 items already have more words
MIN_REPEATS = 2.0  # a term or value that describes tastes occurs at least twice on average
MIN_YEAR_SHARE = 0.95  # of the values; real files have a few others among the years
MAX_TEXT_WORDS = 50  # words read of one text; what a description is about stands at its beginning
MAX_WORD_SHARE = 0.1  # of the items; more frequent words are function words
_SPLIT = re.compile(r"[\s,;|]+")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]+")
_YEAR = re.compile(r"[12][0-9]{3}")


@dataclass(frozen=True, slots=True)
class Features:
    """What an extract knows of one item.

    Attributes:
        terms: (column, term) pairs to count, in the order of the columns.
        words: words of its title in lower case, each once.
        title: its value in the first text column, '' without one.
        weights: term or word of any text -> inverse document frequency, for overlaps.
        norm: square root of the sum of the weights.
    """

    terms: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    title: str
    weights: dict[tuple[str, str], float]
    norm: float


class Catalogue:
    """Statistics of an item catalogue; they depend on item texts alone, not on any user's events.

    Attributes:
        kinds: column -> what it is: ``terms`` of a closed vocabulary (genres), whole ``values`` that repeat (category,
            brand), ``decades`` of a year, free ``text``, or ``constant``, which tells nothing.
        counted: columns whose terms are counted.
        texts: columns of free text; the first supplies titles.
    """

    def __init__(self, item_text: ItemText) -> None:
        items = [item for item in item_text.items.values() if item.fields]
        values: dict[str, list[str]] = {column: [] for column in item_text.columns}
        for item in items:
            for column, value in item.fields:
                values[column].append(value)
        self.kinds: dict[str, ColumnKind] = {column: column_kind(v) for column, v in values.items()}
        self.counted = tuple(c for c, kind in self.kinds.items() if kind in ("terms", "values", "decades"))
        self.texts = tuple(c for c, kind in self.kinds.items() if kind == "text")
        self.n_items = len(items)
        self._frequency = Counter(key for item in items for key in self._keys(item))
        self._features: dict[Item, Features] = {}

    def features(self, item: Item) -> Features:
        """The features of an item, computed once; an item without fields has none."""
        known = self._features.get(item)
        if known is None:
            keys = self._keys(item)
            weights = {key: self.idf(key) for key in keys}
            title = next((value for column, value in item.fields if column in self.texts[:1]), "")
            known = self._features[item] = Features(
                tuple(key for key in keys if key[0]),
                tuple(dict.fromkeys(words(title))),
                title,
                weights,
                math.sqrt(sum(weights.values())),
            )
        return known

    def idf(self, key: tuple[str, str]) -> float:
        """log(items / items with it), 0 for what no item has.

        Args:
            key: (column, term), or ('', word).
        """
        frequency = self._frequency.get(key, 0)
        return math.log(self.n_items / frequency) if frequency else 0.0

    def telling(self, word: str) -> bool:
        """Whether a word occurs in enough items to come again and in few enough to mean something."""
        frequency = self._frequency.get(("", word), 0)
        return max(2.0, self.n_items / 1000) <= frequency <= max(self.n_items * MAX_WORD_SHARE, 3)

    def _keys(self, item: Item) -> list[tuple[str, str]]:
        keys: dict[tuple[str, str], None] = {}
        for column, value in item.fields:
            kind = self.kinds.get(column)
            if kind == "text":
                keys.update(dict.fromkeys(("", word) for word in words(value)))
            elif kind is not None and kind != "constant":
                keys.update(dict.fromkeys((column, term) for term in terms(value, kind)))
        return list(keys)


def column_kind(values: Sequence[str]) -> ColumnKind:
    """What a column is, from all its values.

    >>> column_kind(["Drama War", "Drama", "War", "Drama"])
    'terms'
    >>> column_kind(["Heat", "Fargo", "Casino"])
    'text'
    """
    distinct = set(values)
    if values and sum(_YEAR.fullmatch(value) is not None for value in values) >= MIN_YEAR_SHARE * len(values):
        return "decades"
    if len(distinct) == 1 and len(values) > 1:
        return "constant"
    occurrences = Counter(term for value in values for term in terms(value, "terms"))
    closed = len(occurrences) <= MAX_VOCABULARY and occurrences.total() >= MIN_REPEATS * len(occurrences)
    if closed and len(occurrences) < len(distinct):
        return "terms"
    return "values" if distinct and len(values) >= MIN_REPEATS * len(distinct) else "text"


def terms(value: str, kind: ColumnKind) -> Iterable[str]:
    """The terms of one value.

    >>> list(terms("Drama War", "terms")), list(terms("Small Parts", "values")), list(terms("1994", "decades"))
    (['Drama', 'War'], ['Small Parts'], ['1990s'])
    """
    if kind == "terms":
        return (term for term in _SPLIT.split(value) if term)
    return (f"{value[:3]}0s" if kind == "decades" and _YEAR.fullmatch(value) else value,)


def words(value: str) -> list[str]:
    """The first words of a text in lower case, without numbers and single letters."""
    return [word.lower() for word in _WORD.findall(" ".join(value.split()[:MAX_TEXT_WORDS])) if len(word) <= 32]
