"""From histories to a plan: blocks go to a paradigm, in time linear in events."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.config.settings import SummarySettings
from recbole_llmtrsr.summarizer.planning.hierarchical import Tree
from recbole_llmtrsr.summarizer.planning.plan import Plan
from recbole_llmtrsr.summarizer.planning.recurrent import Chain


class Paradigm(Protocol):
    """The calls over one growing history."""

    def append(self, run: int) -> None:
        """The history has one more full block."""
        ...

    def summary(self, run: int | None = None) -> int:
        """The call that summarizes the blocks so far and, if given, a last short block; -1 where there is none."""
        ...

    def calls_alone(self, n_blocks: int) -> int:
        """Calls of a history of so many blocks that shares none."""
        ...


PARADIGMS: dict[str, Callable[[Plan, SummarySettings], Paradigm]] = {
    "hierarchical": lambda plan, settings: Tree(plan, settings.merge_fan_in, settings.max_depth),
    "recurrent": lambda plan, settings: Chain(plan),
}


def make_plan(
    items: npt.NDArray[np.int64], begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64], settings: SummarySettings
) -> Plan:
    """Plan the summaries of histories, each a slice of one array of events.

    Blocks are aligned to where a history begins, so that histories that begin together, the prefixes of one user,
    share their full blocks. With ``summarize_remainder`` the short last block counts too; without it, its items are
    left to the recent items. With ``max_blocks`` the most recent blocks count, the short one included; each history
    beyond them then takes ``max_blocks`` steps, and its recurrent chain shares little, as it starts at a later block.

    Args:
        items: item ids of all events. [n_events]
        begin: where each history begins. [n_histories]
        end: where it ends, target excluded. [n_histories]
        settings: paradigm and blocks.
    """
    plan = Plan(items)
    plan.results = np.full(len(begin), -1, dtype=np.int64)
    sequence = _Sequence(plan, settings, -1)
    for number in np.lexsort((end, begin)).tolist():
        if sequence.begin != begin[number]:
            sequence = _Sequence(plan, settings, int(begin[number]))
        plan.results[number] = sequence.summary(int(end[number]))
    return plan


class _Sequence:
    """One user's events, of which ever longer prefixes are summarized."""

    def __init__(self, plan: Plan, settings: SummarySettings, begin: int) -> None:
        self.begin = begin
        self._plan, self._settings = plan, settings
        self._limit = math.inf if settings.max_blocks is None else settings.max_blocks
        self._next = begin  # where the next full block begins
        self._n_blocks = 0
        self._latest: deque[int] = deque(maxlen=settings.max_blocks)  # runs; all of them without a limit
        self._state, self._n_in_state = self._new(), 0  # grows with histories that are within the limit

    def summary(self, end: int) -> int:
        size = self._settings.block_size
        while self._next + size <= end:
            self._latest.append(self._plan.run(self._next, self._next + size))
            self._next += size
            self._n_blocks += 1
        rest = None
        if self._settings.with_remainder and self._next < end:
            rest = self._plan.run(self._next, end)
        n_blocks = self._n_blocks + (rest is not None)
        self._plan.requested += self._state.calls_alone(int(min(n_blocks, self._limit)))
        if n_blocks <= self._limit:
            for run in islice(self._latest, self._n_in_state, None):
                self._state.append(run)
            self._n_in_state = self._n_blocks
            return self._state.summary(rest)
        window = self._new()
        for run in islice(self._latest, int(len(self._latest) + (rest is not None) - self._limit), None):
            window.append(run)
        return window.summary(rest)

    def _new(self) -> Paradigm:
        return PARADIGMS[self._settings.summary](self._plan, self._settings)
