"""A graph of the distinct writer calls that the summaries of many histories need.

A plan contains no text. It stores the kind of each call, the ids of its items and the numbers of the earlier calls that
it reads, so that millions of calls fit in memory. A merge of all blocks (no ``merge_fan_in``) lists all of them, so
that the prefixes of a user with n events take about n * n / block_size numbers: 60 MB for four users with 6,000 events.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.summarizer.jobs import KINDS, Kind


class Plan:
    """Calls, numbered from 0 and in an order in which inputs precede the calls that read them.

    Attributes:
        results: number of the call whose text is each history's summary; -1 without a summary. [n_histories]
        requested: number of calls without sharing.
    """

    def __init__(self) -> None:
        self.results: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.requested = 0
        self._calls: list[tuple[Kind, bytes | None, tuple[int, ...]]] = []
        self._numbers: dict[tuple[Kind, bytes | None, tuple[int, ...]], int] = {}
        self._stages: list[int] = []  # by number: wave and kind as one, ascending as calls run

    def __len__(self) -> int:
        return len(self._calls)

    def write(self, kind: Kind, block: bytes | None = None, inputs: tuple[int, ...] = ()) -> int:
        """Add a call unless the plan has an equal one; paradigms call this as ``write`` and get numbers for texts.

        Args:
            kind: kind of the call.
            block: ids of the items that it reads, oldest first, as bytes of int32.
            inputs: numbers of the calls whose texts it reads, oldest first.

        Returns:
            The number of the call.
        """
        call = kind, block, inputs
        number = self._numbers.setdefault(call, len(self._calls))
        if number == len(self._calls):
            self._calls.append(call)
            wave = max(map(self._stages.__getitem__, inputs)) // len(KINDS) + 1 if inputs else 0
            self._stages.append(wave * len(KINDS) + KINDS.index(kind))
        return number

    def kind(self, number: int) -> Kind:
        """The kind of a call."""
        return self._calls[number][0]

    def items_of(self, number: int) -> npt.NDArray[np.int32]:
        """Item ids that a call reads, oldest first; none for a merge."""
        return np.frombuffer(self._calls[number][1] or b"", dtype=np.int32)

    def inputs_of(self, number: int) -> tuple[int, ...]:
        """Numbers of the calls whose texts a call reads, oldest first."""
        return self._calls[number][2]

    def waves(self) -> Iterator[tuple[Kind, npt.NDArray[np.int64]]]:
        """Yield the calls in topological order, as groups of one kind that read only calls of earlier groups."""
        if not len(self):
            return
        stages = np.array(self._stages, dtype=np.int32)
        order = np.argsort(stages, kind="stable")
        for numbers in np.split(order, np.flatnonzero(np.diff(stages[order])) + 1):
            yield self.kind(int(numbers[0])), numbers

    def chain(self, number: int) -> list[int]:
        """Return the numbers of a call and of all calls that it depends on, in execution order."""
        needed, waiting = set[int](), [number]
        while waiting:
            call = waiting.pop()
            if call not in needed:
                needed.add(call)
                waiting += self.inputs_of(call)
        return sorted(needed)

    def items_behind(self, number: int) -> list[int]:
        """Item ids that a call's text covers, directly or by way of earlier texts, oldest first."""
        pieces, waiting = [], [number]
        while waiting:  # from the newest to the oldest
            call = waiting.pop()
            pieces.append(self.items_of(call).tolist())
            waiting += self.inputs_of(call)
        return [item for piece in reversed(pieces) for item in piece]

    def distinct(self) -> dict[Kind, int]:
        """Number of calls of each kind."""
        counts = np.bincount(np.array(self._stages, dtype=np.int32) % len(KINDS), minlength=len(KINDS))
        return dict(zip(KINDS, counts.tolist(), strict=True))
