"""Estimated cost of a plan: calls, tokens and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.llm.generators.generation import MeasuredSpeed
from recbole_llmtrsr.summarizer.calls import Calls
from recbole_llmtrsr.summarizer.execute import Executor
from recbole_llmtrsr.summarizer.jobs import KINDS, Kind
from recbole_llmtrsr.summarizer.store.store import Speed, SummaryStore
from recbole_llmtrsr.summarizer.writers.llm_writer import LLMWriter
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

# Of a server of which the store holds no timed call, as requests for a measurement could cost money.
ASSUMED = MeasuredSpeed(seconds_per_prompt_token=1 / 2000, seconds_per_new_token=1 / 100, new_tokens=math.inf)
STEP_COST = 5.0  # time of a new token in prompt tokens, to divide the time of stored calls between the two
N_MEASURED = 4  # prompts of a measurement


@dataclass
class Cost:
    """The calls that the store does not hold, and an estimate of their tokens and time.

    Attributes:
        histories: number of histories in the run.
        requested: number of calls if histories shared none.
        distinct: number of calls in the plan, by kind.
        needed: number of planned calls that the store does not hold, by kind.
        prompt_tokens: tokens to read, where earlier texts that are not written yet count like new ones.
        max_new_tokens: tokens to write if every answer reaches the length limit.
        new_tokens: tokens to write if answers are as long as the writer's stored or measured ones.
        seconds: wall time of reading and writing.
        basis: where the speed comes from.
    """

    histories: int = 0
    requested: int = 0
    distinct: dict[Kind, int] = field(default_factory=dict)
    needed: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    prompt_tokens: int = 0
    max_new_tokens: int = 0
    new_tokens: float = 0.0
    seconds: float = 0.0
    basis: str = "by the writer's calls in the store"

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
        if needed and self.seconds:  # unknown of a writer without prompts, of which the store holds no timed call
            lines.append(f"estimated time   {_duration(self.seconds)} ({self.basis})")
        return "\n".join(lines)


def estimate(
    calls: Calls,
    writer: SummaryWriter,
    store: SummaryStore,
    settings: SummarySettings,
    make_fallback: Callable[[], SummaryWriter],
) -> Cost:
    """Estimate the cost of a plan by a dry run, without second attempts at answers that are not written yet.

    The speed is that of the writer's stored calls. Without them, a local model is measured for some seconds.

    Args:
        calls: the calls of the plan; the dry run fills in the texts that the store holds.
        writer: the writer, which runs no job here.
        store: the store of answers that need no call.
        settings: length limit of an answer, and the policy for faulty answers in the store.
        make_fallback: creates the writer of replacements when one is needed.
    """
    executor = Executor(calls, writer, store, faulty=settings.faulty_summaries, make_fallback=make_fallback, dry=True)
    executor.run()
    cost = Cost(len(calls.plan.results), calls.plan.requested, calls.plan.distinct())
    speeds = _stored_speeds(writer, store)
    if executor.needed and not speeds:
        measured = _measured(calls, writer, [number for number, _ in executor.needed])
        speeds = dict.fromkeys(KINDS, measured or ASSUMED)
        cost.basis = (
            f"at {_rates(measured)}, measured just now"
            if measured
            else f"at an assumed {_rates(ASSUMED)}; no call of this writer was timed yet"
        )
    count = cache(writer.count_tokens)
    limit = writer.prompts.budget if isinstance(writer, LLMWriter) else math.inf
    for number, attempt in executor.needed:
        kind = calls.plan.kind(number)
        wording, speed = writer.wording(kind), speeds.get(kind) or next(iter(speeds.values()))
        cost.needed[kind] += 1
        most = settings.summarizer_max_new_tokens if wording else 0
        new = min(speed.new_tokens, most)
        read: float = sum(map(count, wording[: attempt + 1])) + sum(
            count(f"- {line}\n") for line in calls.lines(number)
        )
        inputs = (calls.texts[i] for i in calls.plan.inputs_of(number))
        read += sum(new if text is None else count(text) for text in inputs)
        read = min(read, limit) if wording else 0
        cost.prompt_tokens += int(read)
        cost.max_new_tokens += most
        cost.new_tokens += new
        cost.seconds += (
            speed.seconds_per_call + read * speed.seconds_per_prompt_token + new * speed.seconds_per_new_token
        )
    return cost


def _stored_speeds(writer: SummaryWriter, store: SummaryStore) -> dict[Kind, MeasuredSpeed]:
    """The speed of the writer's stored calls, by kind."""
    known = store.writers()  # searched instead of calling writer_id(), which would register the writer
    totals = {
        kind: store.speed([number for number, (_, made) in known.items() if made == writer.settings(kind)])
        for kind in KINDS
    }
    return {kind: _speed_of(total, bool(writer.wording(kind))) for kind, total in totals.items() if total.calls}


def _speed_of(total: Speed, has_prompts: bool) -> MeasuredSpeed:
    """The speed of calls, whose time is divided between reading and writing if they have prompts."""
    if not has_prompts:
        return MeasuredSpeed(0.0, 0.0, 0.0, total.seconds / total.calls)
    seconds = total.seconds / max(1.0, total.prompt_tokens + STEP_COST * total.new_tokens)
    return MeasuredSpeed(seconds, STEP_COST * seconds, total.new_tokens / total.calls)


def _measured(calls: Calls, writer: SummaryWriter, needed: Sequence[int]) -> MeasuredSpeed | None:
    """Measure a local model with some of the calls whose inputs are known."""
    ready = [number for number in needed if calls.ready(number)]
    jobs = [calls.job(number) for number in ready[:: max(1, len(ready) // N_MEASURED)]]
    jobs = [job for job in jobs if job.items or any(job.inputs)][:N_MEASURED]
    if not jobs or not isinstance(writer, LLMWriter):
        return None
    waves = [numbers for _, wave in calls.plan.waves() if (numbers := set(needed).intersection(wave.tolist()))]
    return writer.measure(jobs, -(-len(needed) // len(waves)))


def _rates(speed: MeasuredSpeed) -> str:
    """Format the speed.

    >>> _rates(MeasuredSpeed(1 / 400, 1 / 2.5, 70))
    '400 prompt and 2.5 new tokens/s'
    """
    rates = 1 / speed.seconds_per_prompt_token, 1 / speed.seconds_per_new_token
    read, written = (f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}" for rate in rates)
    return f"{read} prompt and {written} new tokens/s"


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
