"""Preference summaries of any history, by the writer and the store of the run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from recbole.data.dataset import Dataset

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.histories import Histories
from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.experiment.summary_stage import run_writer, store_path
from recbole_llmtrsr.recommend.queries import Query
from recbole_llmtrsr.summarizer.from_file import FileSummaries, read_summaries
from recbole_llmtrsr.summarizer.keys import digest, item_digest
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.summarize import SummaryResult, plan_calls, summarize
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter
from recbole_llmtrsr.summarizer.writers.make_writer import FILE, check_summarizer
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

REMEMBERED = 10_000  # summaries kept in memory; the store keeps all


@dataclass(frozen=True)
class Summary:
    """A preference summary.

    Attributes:
        text: on one line; '' where there is none.
        is_replaced: an extract replaces the answer to one of its calls, which the summarizer did not give.
    """

    text: str
    is_replaced: bool = False


class SummaryService:
    """Finds or writes summaries by the calls and keys of the run, so that those that the run wrote are found.

    Raises:
        UserError: the run's summarizer is not available any more.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self._settings = config.settings.summary
        self._item_text = dataset.item_text
        self._file: FileSummaries | None = None
        self._writer: SummaryWriter | None = None
        self._known: OrderedDict[bytes, str] = OrderedDict()
        if not self.is_on:
            return
        check_summarizer(self._settings)
        if self._settings.summarizer.startswith(FILE):
            self._file = read_summaries(Path(self._settings.summarizer.removeprefix(FILE)).expanduser())
        else:
            self._writer = run_writer(config, dataset.item_text)

    @property
    def is_on(self) -> bool:
        """Whether the run's prompts have summaries."""
        return bool(self._settings.summary != "none")

    def summaries(self, queries: Sequence[Query]) -> list[Summary]:
        """The summary of each query's history; '' where there is none.

        With ``summarizer: file:<path>`` known users have theirs, as in the run, and histories given by hand have none.

        Raises:
            UserError: a fault of the summarizer or the store.
        """
        if not self.is_on:
            return [Summary("")] * len(queries)
        if self._file is not None:
            return [Summary(self._from_file(query)) for query in queries]
        keys = [digest_of(query) for query in queries]
        found = {key: Summary(self._known[key]) for key in keys if key in self._known}
        missing = {key: query for key, query in zip(keys, queries) if key not in found}
        for written in self._all_written(missing):
            found |= written
            # A call that a server did not answer is made again next time.
            self._known |= {key: summary.text for key, summary in written.items() if not summary.is_replaced}
        for key in keys:
            if key in self._known:
                self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return [found[key] for key in keys]

    def traced(self, query: Query) -> SummaryResult:
        """The summary of a query's history and the calls behind it, as history 0.

        Raises:
            UserError: as ``summaries``.
        """
        if not self.is_on or self._file is not None:
            return SummaryResult({0: self.summaries([query])[0].text}, {})
        return self._written([query], (0,))

    def _all_written(self, missing: Mapping[bytes, Query]) -> Iterator[dict[bytes, Summary]]:
        """Summaries by key; one history after the other if calls were not answered, to find which ones those are of."""
        if not missing:
            return
        result = self._written(list(missing.values()), ())
        if result.report["replaced"] and len(missing) > 1:
            for key, query in missing.items():
                yield from self._all_written({key: query})
            return
        is_replaced = result.report["replaced"] > 0
        yield {key: Summary(result.summaries[place], is_replaced) for place, key in enumerate(missing)}

    def _from_file(self, query: Query) -> str:
        assert self._file is not None
        found = None if query.user is None else self._file.find(query.user, len(query.history))
        return "" if found is None else found[0]

    def _written(self, queries: Sequence[Query], traced: Sequence[int]) -> SummaryResult:
        """Summaries by place of the query. Items get new numbers: no key of the store depends on their numbers."""
        assert self._writer is not None
        items: dict[tuple[str, Item], int] = {}
        numbers, ends = [], []
        for query in queries:
            for one in query.history:
                numbers.append(items.setdefault((one.token or one.item.line, one.item), len(items)))
            ends.append(len(numbers))
        events, end = np.array(numbers, dtype=np.int64), np.array(ends, dtype=np.int64)
        histories = Histories(events, np.r_[0, end[:-1]], end, events)
        ids, tokens, texts = range(len(queries)), [token for token, _ in items], [item for _, item in items]
        calls = plan_calls(histories, ids, texts, tokens, self._writer, self._settings)
        with SummaryStore(store_path(self._settings.summary_store)) as store:
            fallback = lambda: ExtractiveWriter(self._item_text)  # noqa: E731
            return summarize(ids, calls, self._writer, store, self._settings, fallback, traced=traced)


def digest_of(query: Query) -> bytes:
    """Digest of the texts of a history's items."""
    return digest("".join(item_digest(one.item).hex() for one in query.history))
