"""Trace of a summary, which lists the calls behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recbole_llmtrsr.llm.generators.generation import Finish
from recbole_llmtrsr.summarizer.calls import Calls
from recbole_llmtrsr.summarizer.execute import Executor, Source
from recbole_llmtrsr.summarizer.jobs import Kind
from recbole_llmtrsr.summarizer.store.store import SummaryStore


@dataclass(frozen=True)
class TracedCall:
    """A call behind a summary.

    Attributes:
        number: number of the call in its plan.
        kind: ``block``, ``update`` or ``merge``.
        items: texts of the items that the call reads, oldest first.
        inputs: numbers of the calls whose texts it reads, oldest first.
        text: the answer or its replacement.
        source: whether the text was found in the store, written in this run, or replaced by the extractive writer.
        prompt_tokens: prompt tokens of the writer's answer, even if it was replaced; 0 without an answer.
        new_tokens: new tokens of the answer; 0 without an answer.
        finish: reason why the answer ended; 'none' without an answer.
        faults: faults of the answer.
    """

    number: int
    kind: Kind
    items: tuple[str, ...]
    inputs: tuple[int, ...]
    text: str
    source: Source
    prompt_tokens: int = 0
    new_tokens: int = 0
    finish: Finish | Literal["none"] = "none"
    faults: tuple[str, ...] = ()


def trace(number: int, calls: Calls, executor: Executor, store: SummaryStore) -> tuple[TracedCall, ...]:
    """List the calls behind a call's text in execution order, the call itself last; empty for -1."""
    traced = []
    for call in calls.plan.chain(number) if number >= 0 else ():
        key = calls.used_keys[call] or calls.key(call)
        answer = store.find([key]).get(key)
        traced.append(
            TracedCall(
                call,
                calls.plan.kind(call),
                tuple(calls.lines(call)),
                tuple(calls.plan.inputs_of(call)),
                str(calls.texts[call]),
                executor.source(call),
                answer.prompt_tokens if answer else 0,
                answer.new_tokens if answer else 0,
                answer.finish if answer else "none",
                executor.faults(call, answer) if answer else (),
            )
        )
    return tuple(traced)
