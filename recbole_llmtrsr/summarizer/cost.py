"""Estimated cost of a plan: calls, tokens and time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.summarizer.calls import Calls
from recbole_llmtrsr.summarizer.execute import Executor
from recbole_llmtrsr.summarizer.jobs import KINDS, Kind
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

ASSUMED_TOKENS_PER_SECOND = 100.0  # new tokens, where the store holds no timed call of the writer; the estimate says so


@dataclass
class Cost:
    """The calls that the store does not hold, and an estimate of their tokens and time.

    Attributes:
        histories: number of histories in the run.
        requested: number of calls if histories shared none.
        distinct: number of calls in the plan, by kind.
        needed: number of planned calls that the store does not hold, by kind.
        prompt_tokens: tokens to read; earlier texts that are not written yet count with the length limit.
        max_new_tokens: tokens to write if every answer reaches the length limit.
        new_tokens: tokens to write if answers are as long as the writer's stored answers of the same kind.
        seconds: wall time, estimated from the writer's stored calls of the same kind.
        assumed: whether the store has no such calls, so that ``seconds`` rests on an assumed speed.
    """

    histories: int = 0
    requested: int = 0
    distinct: dict[Kind, int] = field(default_factory=dict)
    needed: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    prompt_tokens: int = 0
    max_new_tokens: int = 0
    new_tokens: float = 0.0
    seconds: float = 0.0
    assumed: bool = False

    def text(self) -> str:
        """Return the cost as text, one figure per line."""
        needed = sum(self.needed.values())
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.needed.items() if count)
        lines = [
            f"histories        {self.histories:,}",
            f"calls unshared   {self.requested:,}",
            f"calls distinct   {sum(self.distinct.values()):,}",
            f"calls to make    {needed:,}" + (f" ({kinds})" if kinds else ""),
        ]
        if self.max_new_tokens:
            lines += [
                f"prompt tokens    {self.prompt_tokens:,}",
                f"new tokens       {self.new_tokens:,.0f}, at most {self.max_new_tokens:,}",
            ]
        if needed:
            basis = (
                f"at an assumed {ASSUMED_TOKENS_PER_SECOND:,.0f} new tokens/s; no call of this writer was timed yet"
                if self.assumed
                else "by the writer's calls in the store"
            )
            lines.append(f"estimated time   {_duration(self.seconds)} ({basis})")
        return "\n".join(lines)


def estimate(
    calls: Calls,
    writer: SummaryWriter,
    store: SummaryStore,
    settings: SummarySettings,
    make_fallback: Callable[[], SummaryWriter],
    prompt_limit: int | None,
) -> Cost:
    """Estimate the cost of a plan by a dry run, without second attempts at answers that are not written yet.

    Args:
        calls: the calls of the plan; the dry run fills in the texts that the store holds.
        writer: the writer, which only counts tokens here and runs no job.
        store: the store of answers that need no call.
        settings: length limit of an answer, and the policy for faulty answers in the store.
        make_fallback: creates the writer of replacements when one is needed.
        prompt_limit: longest prompt of an LLM, in tokens; None without an LLM.
    """
    executor = Executor(calls, writer, store, faulty=settings.faulty_summaries, make_fallback=make_fallback, dry=True)
    executor.run()
    cost = Cost(len(calls.plan.results), calls.plan.requested, calls.plan.distinct())
    known = store.writers()  # searched instead of calling writer_id(), which would register the writer
    speeds = {
        kind: store.speed([number for number, (_, made) in known.items() if made == writer.settings(kind)])
        for kind in KINDS
    }
    count, limit = cache(writer.count_tokens), math.inf if prompt_limit is None else prompt_limit
    timed = [speed for speed in speeds.values() if speed.calls]
    for number, attempt in executor.needed:
        kind = calls.plan.kind(number)
        wording = writer.wording(kind)
        cost.needed[kind] += 1
        most = settings.summarizer_max_new_tokens if wording else 0
        read = sum(map(count, wording[: attempt + 1])) + sum(count(f"- {line}\n") for line in calls.lines(number))
        inputs = (calls.texts[i] for i in calls.plan.inputs_of(number))
        read += sum(most if text is None else count(text) for text in inputs)
        cost.prompt_tokens += int(min(read, limit)) if wording else 0
        cost.max_new_tokens += most
        speed = speeds[kind] if speeds[kind].calls or not timed else timed[0]
        cost.new_tokens += speed.new_tokens / speed.calls if speed.calls else most
        cost.seconds += speed.seconds / speed.calls if speed.calls else most / ASSUMED_TOKENS_PER_SECOND
        cost.assumed |= not speed.calls
    return cost


def _duration(seconds: float) -> str:
    """Format a duration in a suitable unit.

    >>> _duration(0.4), _duration(75), _duration(5000), _duration(400_000)
    ('0.4 s', '75 s', '83 min', '111.1 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 10_000 else f"{seconds / 3600:,.1f} h"
