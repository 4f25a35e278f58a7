"""The extractive writer: counts and titles instead of prose, without any model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.summarizer.catalogue import Catalogue, Features
from recbole_llmtrsr.summarizer.digest import Digest, format_digest, label, parse_digest, term, title

N_TITLES = 3
TITLE_DECAY = 0.9  # weight of a title per later block: half after seven blocks
MAX_TERMS = 12  # terms of all columns together; with titles about 50 tokens
MAX_COLUMN_TERMS = 8
MAX_CANDIDATES = 30  # titles compared with each other; older ones would weigh too little to win
CACHED_DIGESTS = 20_000


class ExtractiveWriter:
    """Counts what a user chose and quotes what is typical of it.

    Counts are of items, whole history, most frequent first, ties to the more recent. They come from columns whose
    terms repeat (genres, category, brand); a catalogue of free text alone gets the telling words of its titles instead,
    by count x idf^2 (with plain idf, words like 'with' win in long histories). Titles are those with the largest idf-weighted
    overlap (cosine) with the others, recent ones preferred, written oldest first.

    Blocks keep twice as many terms as merged summaries, so merged counts are nearly exact. An update only knows the
    terms that its previous summary kept, so a term that rises late is counted from the block in which it last entered.

    Args:
        item_text: the catalogue; its statistics use item texts, never events.
    """

    name = "extractive"

    def __init__(self, item_text: ItemText) -> None:
        self._catalogue = Catalogue(item_text)
        counted, texts = self._catalogue.counted, self._catalogue.texts
        self._labels = {column: label(column) for column in counted}
        self._words_label = "words" if not counted and texts else ""
        self._title_label = label(texts[0]) if texts else ""
        if self._title_label in (*self._labels.values(), self._words_label):
            self._title_label = "titles"
        self._count_labels = [*self._labels.values(), *([self._words_label] if self._words_label else [])]
        self._n_terms = max(2, min(MAX_COLUMN_TERMS, MAX_TERMS // max(1, len(self._count_labels))))
        self._by_title: dict[str, Item] = {}
        for item in item_text.items.values():
            for column, value in item.fields:
                if column in texts[:1]:
                    self._by_title.setdefault(title(value), item)
        self._item_digest = lru_cache(CACHED_DIGESTS)(self._digest_of_item)
        self._parse = lru_cache(CACHED_DIGESTS)(self._parse_text)
        self._report = {"texts": 0, "words": 0, "empty": 0}

    def write(self, blocks: Sequence[Sequence[Item]]) -> list[str]:
        """Extract each block; a block of items without text gives ''."""
        return [self._text(self._block(block)) for block in blocks]

    def update(self, previous: Sequence[str], blocks: Sequence[Sequence[Item]]) -> list[str]:
        """Add each block to its previous summary; of a summary in other words, the words are kept in front."""
        pairs = zip(previous, blocks, strict=True)
        return [self._text(self._combine([self._parse(text), self._block(block)])) for text, block in pairs]

    def merge(self, groups: Sequence[Sequence[str]]) -> list[str]:
        """Add up each group."""
        return [self._text(self._combine([self._parse(text) for text in group])) for group in groups]

    def report(self) -> dict[str, int]:
        """Texts written, their words, and how many were empty."""
        return dict(self._report)

    def _block(self, items: Sequence[Item]) -> Digest:
        return self._combine([self._item_digest(item) for item in items], 2 * self._n_terms, decay=1.0)

    def _combine(self, digests: Sequence[Digest], n_terms: int | None = None, decay: float = TITLE_DECAY) -> Digest:
        """One digest of several, oldest first."""
        counts = {}
        for name in self._count_labels:
            total: Counter[str] = Counter()
            for digest in reversed(digests):  # a term enters at its latest occurrence, which settles ties
                for value, count in digest.counts.get(name, {}).items():
                    total[value] += count
            ranked = sorted(total, key=lambda value: -total[value] * self._weight(name, value))
            counts[name] = {value: total[value] for value in ranked[: n_terms or self._n_terms]}
        note = next((digest.note for digest in reversed(digests) if digest.note), "")
        return Digest(counts, self._titles(digests, decay), note)

    def _weight(self, name: str, value: str) -> float:
        return self._catalogue.idf(("", value)) ** 2 if name == self._words_label else 1.0

    def _titles(self, digests: Sequence[Digest], decay: float) -> tuple[str, ...]:
        candidates: dict[str, float] = {}  # title -> recency weight, from the latest to the oldest
        for age, digest in enumerate(reversed(digests)):
            for value in reversed(digest.titles):
                candidates.setdefault(value, decay**age)
            if len(candidates) >= MAX_CANDIDATES:
                break
        if len(candidates) > N_TITLES:
            shown = [(value, self._features_of_title(value)) for value in candidates]
            overlap = Counter(key for _, features in shown if features for key in features.weights)
            scores = {value: candidates[value] * _centrality(features, overlap) for value, features in shown}
            best = set(sorted(candidates, key=lambda value: -scores[value])[:N_TITLES])
            candidates = {value: weight for value, weight in candidates.items() if value in best}
        return tuple(reversed(candidates))

    def _features_of_title(self, value: str) -> Features | None:
        item = self._by_title.get(value)
        return self._catalogue.features(item) if item else None

    def _digest_of_item(self, item: Item) -> Digest:
        features = self._catalogue.features(item)
        counts: dict[str, dict[str, int]] = {}
        for column, value in features.terms:
            if clean := term(value):
                counts.setdefault(self._labels[column], {})[clean] = 1
        if self._words_label:
            telling = [word for word in features.words if self._catalogue.telling(word)]
            counts[self._words_label] = dict.fromkeys(telling, 1)
        shown = title(features.title)
        return Digest(counts, (shown,) if shown else ())

    def _parse_text(self, text: str) -> Digest:
        return parse_digest(text, self._count_labels, self._title_label)

    def _text(self, digest: Digest) -> str:
        text = format_digest(digest, self._title_label)
        self._report["texts"] += 1
        self._report["words"] += len(text.split())
        self._report["empty"] += not text
        return text


def _centrality(features: Features | None, overlap: Counter[tuple[str, str]]) -> float:
    """idf-weighted overlap with the other candidates, relative to the item's own size as in a cosine."""
    if features is None or not features.norm:
        return 0.0
    return sum(weight * (overlap[key] - 1) for key, weight in features.weights.items()) / features.norm
