"""Real prompts of test histories, as prefixes and candidate sections."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from common.runs import Run

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.prompt.builder import PromptBuilder


@dataclass(frozen=True)
class Prompts:
    """Prompts of B histories, shortest prefix first, with equal numbers of candidates, of which the target is first."""

    prefixes: list[list[int]]
    candidates: list[list[list[int]]]

    def parts(self, size: int) -> Iterator[Prompts]:
        """Yield parts with `size` histories each."""
        for i in range(0, len(self.prefixes), size):
            yield Prompts(self.prefixes[i : i + size], self.candidates[i : i + size])

    def first_candidates(self, n: int) -> Prompts:
        """Return all histories with their first n candidates."""
        return Prompts(self.prefixes, [own[:n] for own in self.candidates])

    def every(self, n: int) -> Prompts:
        """Return n evenly spaced histories."""
        n = min(n, len(self.prefixes))
        return self.chosen([i * len(self.prefixes) // n for i in range(n)])

    def middle(self, n: int) -> Prompts:
        """Return the n histories of medium length, or all if there are fewer."""
        begin = max(0, (len(self.prefixes) - n) // 2)
        return Prompts(self.prefixes[begin : begin + n], self.candidates[begin : begin + n])

    def chosen(self, histories: Sequence[int]) -> Prompts:
        """Return some histories in the given order."""
        return Prompts([self.prefixes[i] for i in histories], [self.candidates[i] for i in histories])

    def grouped(self) -> GroupedPrompts:
        """Return the prompts as input of the engine."""
        return GroupedPrompts(self.prefixes, self.candidates)

    def row_lengths(self) -> list[int]:
        """Return the tokens of every prefix with each of its candidates."""
        return [len(p) + len(c) for p, own in zip(self.prefixes, self.candidates) for c in own]

    def section_lengths(self) -> list[int]:
        """Return the tokens of every candidate."""
        return list(map(len, chain.from_iterable(self.candidates)))

    def __len__(self) -> int:
        return sum(map(len, self.candidates))


def test_prompts(run: Run, builder: PromptBuilder, n_histories: int) -> tuple[Prompts, float]:
    """Build prompts of evenly spaced test histories, and measure the seconds per prefix."""
    chosen, items = [], []
    for rows, history, *_ in run.loaders[2]:
        chosen += rows[HISTORY_ID].unique_consecutive().tolist()
        items += [part.tolist() for part in rows[run.dataset.iid_field].split(history.bincount().tolist())]
    wanted = min(n_histories, len(chosen))
    picked = [i * len(chosen) // wanted for i in range(wanted)]
    start = time.perf_counter()
    made = {i: prefix(run, builder, chosen[i]) for i in picked}
    seconds = (time.perf_counter() - start) / wanted
    picked.sort(key=lambda i: len(made[i]))
    sections = [[builder.candidate(item) for item in items[i]] for i in picked]
    return Prompts([made[i] for i in picked], sections), seconds


def prefix(run: Run, builder: PromptBuilder, history_id: int) -> list[int]:
    """Return the token ids of a history's prefix."""
    return [
        int(i) for i in builder.prefix(history_id, run.dataset.summary(history_id), run.dataset.histories[history_id])
    ]
