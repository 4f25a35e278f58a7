"""Which writer calls the summaries of many histories need, each distinct one once, as a graph of numbers.

A plan holds no text. A run of items is a number, a sequence of calls is a number, and a call is one or two of these, so
that a history of n events costs at most n steps and millions of calls fit in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.summarizer.jobs import KINDS, Kind

EMPTY = 0  # the sequence of no calls
_SHIFT = 32  # two numbers as one dictionary key, at a third of a tuple's memory


class Plan:
    """Calls, numbered from 0; inputs come before the calls that read them.

    Args:
        items: item ids of all events, so that every history is a slice of it. [n_events]

    Attributes:
        results: number of the call that gives each history's summary, -1 without one. [n_histories]
        requested: calls that the histories would need if nothing were shared.
    """

    def __init__(self, items: npt.NDArray[np.int64]) -> None:
        self.items = np.ascontiguousarray(items, dtype=np.int32)
        self.results: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.requested = 0
        # Runs of items: where in ``items`` each distinct one was met first.
        self._runs: dict[bytes, int] = {}
        self._run_begin, self._run_end = array("q"), array("q")
        # Sequences of calls, as a tree: each is a shorter one and one call more.
        self._sequences: dict[int, int] = {}
        self._parent, self._last, self._sequence_wave = array("q", [-1]), array("q", [-1]), array("i", [-1])
        # Calls: kind; run of a block or update; previous call of an update, sequence of a merge; wave.
        self._calls: dict[tuple[Kind, int], int] = {}
        self._kind, self._run, self._source, self._wave = bytearray(), array("q"), array("q"), array("i")

    def __len__(self) -> int:
        return len(self._kind)

    def run(self, begin: int, end: int) -> int:
        """The number of the run of items [begin, end); equal runs of different users are one."""
        number = self._runs.setdefault(self.items[begin:end].tobytes(), len(self._run_begin))
        if number == len(self._run_begin):
            self._run_begin.append(begin)
            self._run_end.append(end)
        return number

    def block(self, run: int) -> int:
        """The call that summarizes a run of items."""
        return self._number("block", run, run, -1, 0)

    def update(self, previous: int, run: int) -> int:
        """The call that takes a run of items into the text of an earlier call."""
        return self._number("update", previous << _SHIFT | run, run, previous, self._wave[previous] + 1)

    def merge(self, sequence: int) -> int:
        """The call that merges the texts of a sequence of calls."""
        return self._number("merge", sequence, -1, sequence, self._sequence_wave[sequence] + 1)

    def extend(self, sequence: int, call: int) -> int:
        """The sequence with one call more."""
        number = self._sequences.setdefault(sequence << _SHIFT | call, len(self._last))
        if number == len(self._last):
            self._parent.append(sequence)
            self._last.append(call)
            self._sequence_wave.append(max(self._sequence_wave[sequence], self._wave[call]))
        return number

    def kind(self, number: int) -> Kind:
        """What a call asks for."""
        return KINDS[self._kind[number]]

    def items_of(self, number: int) -> npt.NDArray[np.int32]:
        """Item ids that a call reads, oldest first; none for a merge."""
        run = self._run[number]
        return self.items[self._run_begin[run] : self._run_end[run]] if run >= 0 else self.items[:0]

    def inputs_of(self, number: int) -> list[int]:
        """Numbers of the calls whose texts a call reads, oldest first."""
        source = self._source[number]
        if self.kind(number) != "merge":
            return [source] if source >= 0 else []
        inputs = []
        while source != EMPTY:
            inputs.append(self._last[source])
            source = self._parent[source]
        return inputs[::-1]

    def waves(self) -> Iterator[tuple[Kind, npt.NDArray[np.int64]]]:
        """Yields call numbers of one wave and one kind; all that they read was yielded before."""
        if not len(self):
            return
        waves = np.frombuffer(self._wave, dtype=np.int32).astype(np.int64)
        groups = waves * len(KINDS) + np.frombuffer(self._kind, dtype=np.uint8)
        order = np.argsort(groups, kind="stable")
        for numbers in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            yield self.kind(int(numbers[0])), numbers

    def chain(self, number: int) -> list[int]:
        """A call and all that it depends on, in the order in which they run."""
        needed, waiting = set[int](), [number]
        while waiting:
            call = waiting.pop()
            if call not in needed:
                needed.add(call)
                waiting += self.inputs_of(call)
        return sorted(needed)

    def items_behind(self, number: int) -> list[int]:
        """Item ids that a call's text speaks of, by way of earlier texts too, oldest first."""
        pieces, waiting = [], [number]
        while waiting:  # from the newest to the oldest
            call = waiting.pop()
            pieces.append(self.items_of(call).tolist())
            waiting += self.inputs_of(call)
        return [item for piece in reversed(pieces) for item in piece]

    def distinct(self) -> dict[Kind, int]:
        """Number of calls of each kind."""
        return {kind: self._kind.count(code) for code, kind in enumerate(KINDS)}

    def _number(self, kind: Kind, key: int, run: int, source: int, wave: int) -> int:
        number = self._calls.setdefault((kind, key), len(self._kind))
        if number == len(self._kind):
            self._kind.append(KINDS.index(kind))
            self._run.append(run)
            self._source.append(source)
            self._wave.append(wave)
        return number
