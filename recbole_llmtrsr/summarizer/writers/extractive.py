"""The extractive writer, which writes counts and titles instead of prose and needs no model."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache, partial

from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.summarizer import keys
from recbole_llmtrsr.summarizer.jobs import Job, Kind
from recbole_llmtrsr.summarizer.writers.catalogue import Catalogue
from recbole_llmtrsr.summarizer.writers.digest import Digest, format_digest, label, parse_digest, title

VERSION = 1  # version of the rules below; increase it when texts change, or the store returns old texts
MAX_TERMS = 18  # terms of all columns together, which with titles gives at most about 60 words
MAX_COLUMN_TERMS = 12
N_TITLES = 3
TITLE_DECAY = 0.9  # factor of a title's weight per later text, which halves it after seven blocks
MAX_CANDIDATES = 30  # titles to compare; older ones would have too little weight
CACHED_DIGESTS = 20_000


class ExtractiveWriter:
    """Counts features of the items that a user chose, and quotes typical titles.

    Counts cover the items of the whole history, most frequent first; ties favour recent items. They come from columns
    with repeated terms (genres, category, brand). If the catalogue has only free text, informative words of titles are
    counted instead, ranked by count x idf^2 (with plain idf, words like 'with' win in long histories). Typical titles
    have the largest idf-weighted overlap, in a block with its other items, and later with the counts. Recent titles are
    preferred, and titles are written oldest first.

    Since later calls read only earlier texts, terms beyond the ``MAX_TERMS`` of a text lose their counts. The highest
    counts of a merge are nearly exact; a chain of updates can undercount terms that become frequent late.

    Args:
        item_text: the catalogue, whose statistics use item texts and never events.
    """

    name = "extractive"

    def __init__(self, item_text: ItemText) -> None:
        # In the order of the file, which decides between equal titles and equal statistics.
        fields = [(token, item.fields) for token, item in item_text.items.items()]
        self._catalogue_digest = keys.digest(json.dumps([item_text.columns, fields])).hex()
        self._catalogue = Catalogue(item_text)
        columns = self._catalogue.counted or (("",) if self._catalogue.texts else ())
        self._labels = {column: label(column) if column else "words" for column in columns}
        self._title_label = label(self._catalogue.texts[0]) if self._catalogue.texts else ""
        if self._title_label in self._labels.values():
            self._title_label = f"{self._title_label} examples"
        self._n_terms = min(MAX_COLUMN_TERMS, max(2, MAX_TERMS // max(1, len(columns))))
        self._by_title: dict[str, Item] = {}
        for item in item_text.items.values():  # of equal titles the first in the file
            if shown := title(self._catalogue.title(item)):
                self._by_title.setdefault(shown, item)
        self._item_digest = lru_cache(CACHED_DIGESTS)(self._digest_of_item)
        parse = partial(parse_digest, count_labels=self._labels.values(), title_label=self._title_label)
        self._parse = lru_cache(CACHED_DIGESTS)(parse)
        self._report = {"texts": 0, "words": 0, "empty": 0}

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, object]:
        """Return the digest of the catalogue, whose statistics affect every text, and the version of the rules."""
        return {"writer": "extractive", "version": VERSION, "catalogue": self._catalogue_digest}

    def wording(self, kind: Kind) -> Sequence[str]:
        """Return no wording, since extracts do not have the faults of a language model."""
        return ()

    def run(self, jobs: Sequence[Job]) -> Generator[list[tuple[int, GeneratedText | GenerationFailure]], None, None]:
        """Extract blocks, add blocks to earlier texts, and sum earlier texts, all in one list.

        A block of items without text gives ''. If an earlier text has another format, its words stay at the beginning.
        """
        start = time.perf_counter()
        texts = [self._text(self._digest(job)) for job in jobs]
        seconds = (time.perf_counter() - start) / max(1, len(jobs))
        yield [(position, GeneratedText(text, seconds=seconds)) for position, text in enumerate(texts)]

    def count_tokens(self, text: str) -> int:
        """Return 0, since no model reads the text."""
        return 0

    def report(self) -> Mapping[str, int]:
        """Return the numbers of texts, their words and empty texts."""
        return dict(self._report)

    def _digest(self, job: Job) -> Digest:
        if job.kind == "block":
            return self._block(job.items)
        earlier = [self._parse(text) for text in job.inputs]
        return self._combine([*earlier, self._block(job.items)] if job.items else earlier)

    def _block(self, items: Sequence[Item]) -> Digest:
        features = Counter(key for item in items for key in self._catalogue.keys(item))
        digests = [self._item_digest(item) for item in items]
        return Digest(self._top(self._totals(digests)), self._titles(digests, features, 1.0, whole_text=True))

    def _combine(self, digests: Sequence[Digest]) -> Digest:
        """Combine digests, oldest first, into one."""
        totals = self._totals(digests)
        features = Counter({(column, value): n for column in totals for value, n in totals[column].items()})
        note = next((digest.note for digest in reversed(digests) if digest.note), "")
        return Digest(self._top(totals), self._titles(digests, features, TITLE_DECAY, whole_text=False), note)

    def _totals(self, digests: Sequence[Digest]) -> dict[str, dict[str, int]]:
        """Sum counts by column and term; terms are sorted by their latest occurrence, which breaks ties."""
        totals = {}
        for column, name in self._labels.items():
            total: dict[str, int] = {}
            for digest in reversed(digests):
                for value, count in digest.counts.get(name, {}).items():
                    total[value] = total.get(value, 0) + count
            totals[column] = total
        return totals

    def _top(self, totals: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        """Select the best terms of each label with their counts."""
        best = {}
        for column, total in totals.items():
            ranked = sorted(total.items(), key=lambda pair: -pair[1] * self._weight(column, pair[0]))
            best[self._labels[column]] = dict(ranked[: self._n_terms])
        return best

    def _weight(self, column: str, value: str) -> float:
        return 1.0 if column else self._catalogue.idf(("", value)) ** 2

    def _titles(
        self, digests: Sequence[Digest], features: Counter[tuple[str, str]], decay: float, *, whole_text: bool
    ) -> tuple[str, ...]:
        candidates: dict[str, float] = {}  # title -> recency weight, from the latest to the oldest
        for age, digest in enumerate(reversed(digests)):
            for value in reversed(digest.titles):
                candidates.setdefault(value, decay**age)
            if len(candidates) >= MAX_CANDIDATES:
                break
        if len(candidates) > N_TITLES:
            scores = {v: weight * self._centrality(v, features, whole_text) for v, weight in candidates.items()}
            best = set(sorted(candidates, key=lambda value: -scores[value])[:N_TITLES])
            candidates = {value: weight for value, weight in candidates.items() if value in best}
        return tuple(reversed(candidates))

    def _centrality(self, shown: str, features: Counter[tuple[str, str]], whole_text: bool) -> float:
        """Compute the idf-weighted overlap of a title's item with all others, normalized by its size as in a cosine.

        Args:
            shown: a title; titles outside of the catalogue have no overlap.
            features: number of items with each feature, including this item.
            whole_text: whether to compare all words or only counted features.
        """
        item = self._by_title.get(shown)
        if item is None:
            return 0.0
        counts = self._item_digest(item).counts
        counted = ((column, value) for column, name in self._labels.items() for value in counts.get(name, ()))
        size = overlap = 0.0
        for key in self._catalogue.keys(item) if whole_text else counted:
            idf = self._catalogue.idf(key)
            size += idf
            overlap += idf * max(0, features[key] - 1)
        return overlap / math.sqrt(size) if size else 0.0

    def _digest_of_item(self, item: Item) -> Digest:
        counts: dict[str, dict[str, int]] = {}
        for column, value in self._catalogue.counted_keys(item):
            if column in self._labels:
                counts.setdefault(self._labels[column], {})[value] = 1
        shown = title(self._catalogue.title(item))
        return Digest(counts, (shown,) if shown else ())

    def _text(self, digest: Digest) -> str:
        text = format_digest(digest, self._title_label)
        self._report["texts"] += 1
        self._report["words"] += len(text.split())
        self._report["empty"] += not text
        return text
