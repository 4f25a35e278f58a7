"""The hierarchical paradigm: every block on its own, then a tree of merges."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recbole_llmtrsr.summarizer.planning.plan import EMPTY, Plan


@dataclass
class _Level:
    """Texts of one level of the tree that are not merged yet."""

    sequence: int = EMPTY
    size: int = 0
    only: int = -1  # the call, where there is one only


class Tree:
    """The calls over one history's blocks: s_k = write(block k) for all k, merged bottom up.

    A level's texts are merged in groups of ``fan_in``, aligned to the first, so that all prefixes of a history share
    all but the last merge of each level. What is alone in its group needs no merge and goes up as it is; a history of
    one block needs none at all.

    Args:
        plan: where the calls go.
        fan_in: most texts per merge; None merges all at once: two levels, as in the paper.
        max_depth: most levels of texts, the blocks' included; the topmost merge then takes all that is left.

    Source:
        the paper's hierarchical summarization. Deviation: it knows two levels alone.
    """

    def __init__(self, plan: Plan, fan_in: int | None = None, max_depth: int | None = None) -> None:
        self._plan = plan
        self._fan_in = math.inf if fan_in is None else fan_in
        self._n_levels = math.inf if max_depth is None else max_depth - 1  # levels that are merged
        self._levels = [_Level()]

    def append(self, run: int) -> None:
        """The history has one more full block."""
        call, depth = self._plan.block(run), 0
        while True:
            level = self._levels[depth]
            self._levels[depth] = level = self._with(level, call)
            if level.size < self._fan_in or depth + 1 >= self._n_levels:
                return
            call = self._plan.merge(level.sequence)
            self._levels[depth] = _Level()
            depth += 1
            if depth == len(self._levels):
                self._levels.append(_Level())

    def summary(self, run: int | None = None) -> int:
        """The call that summarizes the blocks so far and, if given, a last short block; -1 where there is none."""
        carried = -1 if run is None else self._plan.block(run)
        for level in self._levels:
            group = level if carried < 0 else self._with(level, carried)
            if group.size:
                carried = group.only if group.size == 1 else self._plan.merge(group.sequence)
        return carried

    def calls_alone(self, n_blocks: int) -> int:
        """Calls of a history of so many blocks that shares none.

        >>> import numpy as np
        >>> [Tree(Plan(np.zeros(0)), fan_in=2).calls_alone(n) for n in (0, 1, 2, 5)]
        [0, 1, 3, 9]
        """
        calls, texts, depth = n_blocks, n_blocks, 0
        while texts > 1:
            if depth + 1 >= self._n_levels or texts <= self._fan_in:
                return calls + 1
            full, rest = divmod(texts, int(self._fan_in))
            calls += full + (rest > 1)
            texts, depth = full + (rest > 0), depth + 1
        return calls

    def _with(self, level: _Level, call: int) -> _Level:
        return _Level(self._plan.extend(level.sequence, call), level.size + 1, -1 if level.size else call)
