"""The recurrent paradigm: one summary, updated block by block."""

from __future__ import annotations

from recbole_llmtrsr.summarizer.planning.plan import Plan


class Chain:
    """The calls over one history's blocks: s_1 = write(block 1), s_k = update(s_{k-1}, block k), summary = s_K.

    Args:
        plan: where the calls go.

    Source:
        the paper's recurrent summarization.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._state = -1

    def append(self, run: int) -> None:
        """The history has one more full block."""
        self._state = self._next(run)

    def summary(self, run: int | None = None) -> int:
        """The call that summarizes the blocks so far and, if given, a last short block; -1 where there is none."""
        return self._state if run is None else self._next(run)

    def calls_alone(self, n_blocks: int) -> int:
        """Calls of a history of so many blocks that shares none."""
        return n_blocks

    def _next(self, run: int) -> int:
        return self._plan.block(run) if self._state < 0 else self._plan.update(self._state, run)
