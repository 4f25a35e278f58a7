"""Which writer calls the summaries of many histories need, each distinct one once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["block", "update", "merge"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Call:
    """One job for a writer.

    Attributes:
        kind: what is asked for.
        items: tokens of its block, oldest first; none in a merge.
        inputs: numbers of the calls whose texts it reads, oldest first; none in a block.
        wave: number of calls that must run before it, one after the other.
    """

    kind: Kind
    items: tuple[str, ...]
    inputs: tuple[int, ...]
    wave: int


class Plan:
    """Calls, numbered from 0, and the call that gives each history's summary.

    A call is known by its items and the *numbers* of its inputs, not by their content, so the chain of a history of
    700 events is looked up in 700 steps.

    Attributes:
        calls: distinct calls; inputs come before the calls that read them.
        results: history id -> number of the call, None for a history without items.
        requested: calls that the histories would need if nothing were shared.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.results: dict[int, int | None] = {}
        self.requested = 0
        self._numbers: dict[tuple[Kind, tuple[str, ...], tuple[int, ...]], int] = {}

    def block(self, items: tuple[str, ...]) -> int:
        """The call that summarizes a block."""
        return self._number("block", items, ())

    def update(self, previous: int, items: tuple[str, ...]) -> int:
        """The call that takes a block into the text of an earlier call."""
        return self._number("update", items, (previous,))

    def merge(self, inputs: tuple[int, ...]) -> int:
        """The call that merges the texts of earlier calls."""
        return self._number("merge", (), inputs)

    def distinct(self) -> dict[Kind, int]:
        """Number of calls of each kind."""
        counts = dict.fromkeys(KINDS, 0)
        for call in self.calls:
            counts[call.kind] += 1
        return counts

    def waves(self) -> Iterator[tuple[Kind, list[int]]]:
        """Yields call numbers of one wave and one kind; all that they read was yielded before."""
        waves: dict[tuple[int, Kind], list[int]] = {}
        for number, call in enumerate(self.calls):
            waves.setdefault((call.wave, call.kind), []).append(number)
        for wave, kind in sorted(waves):
            yield kind, waves[wave, kind]

    def _number(self, kind: Kind, items: tuple[str, ...], inputs: tuple[int, ...]) -> int:
        self.requested += 1
        key = (kind, items, inputs)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.calls)
            wave = 1 + max((self.calls[i].wave for i in inputs), default=-1)
            self.calls.append(Call(kind, items, inputs, wave))
        return number
