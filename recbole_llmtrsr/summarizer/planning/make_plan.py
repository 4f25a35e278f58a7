"""Plans the summaries of histories; those that begin with the same blocks share the calls for these blocks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.summarizer.jobs import Kind
from recbole_llmtrsr.summarizer.paradigms import Write, merge_levels, recurrent, summarize_blocks
from recbole_llmtrsr.summarizer.planning.plan import Plan

State = TypeVar("State")
PlanWrite = Write[bytes, int]


@dataclass(frozen=True)
class Paradigm(Generic[State]):
    """A function of ``paradigms`` in two steps, of which histories with a common beginning share the first.

    Attributes:
        start: the state before the first block.
        read: function (blocks, write, state) that returns the state with these blocks.
        summary: function (state, write) that returns the number of the call that summarizes them; None without a block.
    """

    start: State
    read: Callable[[Iterable[bytes], PlanWrite, State], State]
    summary: Callable[[State, PlanWrite], int | None]

    def calls_alone(self) -> Iterator[int]:
        """Yield the number of calls of a history of 0, 1, 2, ... blocks that shares no call."""
        calls: list[Kind] = []

        def write(kind: Kind, block: bytes | None = None, inputs: tuple[int, ...] = ()) -> int:
            calls.append(kind)
            return len(calls)

        state = self.start
        while True:
            n_read = len(calls)
            self.summary(state, write)
            yield len(calls)
            del calls[n_read:]
            state = self.read([b""], write, state)


PARADIGMS: dict[str, Callable[[SummarySettings], Paradigm[Any]]] = {
    "hierarchical": lambda settings: Paradigm(
        start=((),),
        read=partial(summarize_blocks, fan_in=settings.merge_fan_in, max_depth=settings.max_depth),
        summary=merge_levels,
    ),
    "recurrent": lambda settings: Paradigm(start=None, read=recurrent, summary=lambda summary, write: summary),
}


def make_plan(
    items: npt.NDArray[np.int64], begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64], settings: SummarySettings
) -> Plan:
    """Plan the summaries of histories, which are slices of one array of events.

    Blocks are aligned to the beginning of a history, so that the prefixes of one user share their full blocks. With
    ``summarize_remainder``, the short last block is summarized too; otherwise its items are only among the recent
    items. With ``max_blocks``, only the most recent blocks are summarized, including the short one. Longer histories
    then take ``max_blocks`` steps each and share few calls of a recurrent chain, as it starts at a later block.

    Args:
        items: item ids of all events. [n_events]
        begin: index of the first event of each history. [n_histories]
        end: index after its last event, without the target. [n_histories]
        settings: paradigm and blocks.
    """
    plan = Plan()
    plan.results = np.full(len(begin), -1, dtype=np.int64)
    paradigm = PARADIGMS[settings.summary](settings)
    calls_alone, counts = paradigm.calls_alone(), list[int]()
    ids = np.ascontiguousarray(items, dtype=np.int32)
    prefixes = _Prefixes(plan, paradigm, settings, ids, -1)
    for number in np.lexsort((end, begin)).tolist():
        if prefixes.begin != begin[number]:
            prefixes = _Prefixes(plan, paradigm, settings, ids, int(begin[number]))
        summary, n_blocks = prefixes.summary(int(end[number]))
        if summary is not None:
            plan.results[number] = summary
        counts += islice(calls_alone, max(0, n_blocks + 1 - len(counts)))
        plan.requested += counts[n_blocks]
    return plan


class _Prefixes(Generic[State]):
    """Summarizes increasingly long prefixes of one user's events."""

    def __init__(
        self, plan: Plan, paradigm: Paradigm[State], settings: SummarySettings, ids: npt.NDArray[np.int32], begin: int
    ) -> None:
        self.begin = begin
        self._write, self._paradigm, self._ids = plan.write, paradigm, ids
        self._size, self._with_remainder = settings.block_size, settings.with_remainder
        self._limit = math.inf if settings.max_blocks is None else settings.max_blocks
        self._next = begin  # index of the next full block
        self._n_blocks = 0
        self._latest: deque[bytes] = deque(maxlen=settings.max_blocks)  # full blocks; all of them without a limit
        self._state, self._n_read = paradigm.start, 0  # grows with prefixes that are within the limit

    def summary(self, end: int) -> tuple[int | None, int]:
        """Return the number of the call that summarizes the events before ``end``, and its number of blocks."""
        while self._next + self._size <= end:
            self._latest.append(self._ids[self._next : self._next + self._size].tobytes())
            self._next += self._size
            self._n_blocks += 1
        rest = [self._ids[self._next : end].tobytes()] if self._with_remainder and self._next < end else []
        n_blocks = self._n_blocks + len(rest)
        read, write = self._paradigm.read, self._write
        if n_blocks <= self._limit:
            if self._n_read < self._n_blocks:
                self._state = read(islice(self._latest, self._n_read, None), write, self._state)
                self._n_read = self._n_blocks
            state = read(rest, write, self._state) if rest else self._state
        else:
            n_dropped = len(self._latest) + len(rest) - int(self._limit)
            state = read([*islice(self._latest, n_dropped, None), *rest], write, self._paradigm.start)
            n_blocks = int(self._limit)
        return self._paradigm.summary(state, write), n_blocks
