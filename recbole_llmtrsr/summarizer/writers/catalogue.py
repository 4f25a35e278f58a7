"""Statistics of the item catalogue, which decide whether an extract counts, quotes or compares a column."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.summarizer.writers.digest import term

ColumnKind = Literal["terms", "values", "decades", "text", "constant"]

MAX_VOCABULARY = 200  # terms of a closed vocabulary such as genres; titles of 500 items already have more words
MIN_REPEATS = 2.0  # terms or values that describe tastes occur at least twice on average
MIN_YEAR_SHARE = 0.95  # share of the values; real files have a few other values among the years
MAX_TEXT_WORDS = 50  # words to read of one text, since a description begins with its topic
MAX_WORD_SHARE = 0.1  # share of the items; more frequent words are function words
_SPLIT = re.compile(r"[\s,;|]+")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]+")
_YEAR = re.compile(r"[12][0-9]{3}")


Key = tuple[str, str]  # (column, term), or ('', word of a text)


class Catalogue:
    """Statistics of an item catalogue, which depend only on item texts and not on users' events.

    Attributes:
        kinds: kind of each column: ``terms`` of a closed vocabulary (genres), whole ``values`` that repeat (category,
            brand), ``decades`` of a year, free ``text``, or ``constant``, which is ignored.
        counted: columns whose terms are counted.
        texts: columns of free text, of which the first contains titles.
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
        self._keys: dict[Item, tuple[Key, ...]] = {}
        self._frequency = Counter(key for item in items for key in self._find_keys(item))
        self._idf = {key: math.log(self.n_items / frequency) for key, frequency in self._frequency.items()}

    def keys(self, item: Item) -> tuple[Key, ...]:
        """Return all features of an item, each once: terms of counted columns and words of texts."""
        keys = self._keys.get(item)
        if keys is None:
            keys = tuple(self._find_keys(item))
            if len(self._keys) < self.n_items:  # texts from outside of the catalogue would fill memory
                self._keys[item] = keys
        return keys

    def counted_keys(self, item: Item) -> list[Key]:
        """Return the features under which an item is counted: its terms, and the informative words of its title."""
        title_words = dict.fromkeys(words(self.title(item)))
        return [key for key in self.keys(item) if key[0] or (key[1] in title_words and self.telling(key[1]))]

    def title(self, item: Item) -> str:
        """Return the item's value in the first text column; '' without one."""
        return next((value for column, value in item.fields if column in self.texts[:1]), "")

    def idf(self, key: Key) -> float:
        """Return the inverse document frequency, log(items / items with the feature); 0 for an unknown feature."""
        return self._idf.get(key, 0.0)

    def telling(self, word: str) -> bool:
        """Whether a word occurs in enough items to recur and in few enough to be informative."""
        frequency = self._frequency.get(("", word), 0)
        return max(2.0, self.n_items / 1000) <= frequency <= max(3.0, self.n_items * MAX_WORD_SHARE)

    def _find_keys(self, item: Item) -> dict[Key, None]:
        keys: dict[Key, None] = {}
        for column, value in item.fields:
            kind = self.kinds.get(column)
            if kind == "text":
                keys.update(dict.fromkeys(("", word) for word in words(value)))
            elif kind is not None and kind != "constant":
                keys.update(dict.fromkeys((column, clean) for raw in terms(value, kind) if (clean := term(raw))))
        return keys


def column_kind(values: Sequence[str]) -> ColumnKind:
    """Classify a column from all its values.

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
    """Return the terms of one value.

    >>> list(terms("Drama War", "terms")), list(terms("Small Parts", "values")), list(terms("1994", "decades"))
    (['Drama', 'War'], ['Small Parts'], ['1990s'])
    """
    if kind == "terms":
        return (term for term in _SPLIT.split(value) if term)
    return (f"{value[:3]}0s" if kind == "decades" and _YEAR.fullmatch(value) else value,)


def words(value: str) -> list[str]:
    """Return the first words of a text in lower case, without numbers and single letters."""
    return [word.lower() for word in _WORD.findall(" ".join(value.split()[:MAX_TEXT_WORDS])) if len(word) <= 32]
