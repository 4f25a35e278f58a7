"""What a writer is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from recbole_llmtrsr.data.item_text import Item

Kind = Literal["block", "update", "merge"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Job:
    """One text to write.

    Attributes:
        kind: ``block`` (summarize items), ``update`` (take items into an earlier text) or ``merge`` (earlier texts).
        items: items of its block, oldest first; none in a merge.
        inputs: earlier texts, oldest first: none in a block, one in an update. Each is one line, '' where there is
            nothing to say.
        attempt: 0, and 1 where a faulty answer is asked for once more.
    """

    kind: Kind
    items: tuple[Item, ...] = ()
    inputs: tuple[str, ...] = ()
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a writer wrote.

    Attributes:
        text: one line; '' where there is nothing to say.
        prompt_tokens: tokens read; 0 without a language model.
        new_tokens: tokens written; 0 without a language model.
        seconds: wall time, shared out among the jobs that were worked on together.
        finish: ``stop``, or ``length`` where the text was cut off at the limit.
    """

    text: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that got no answer, for a reason outside of the job (a server that does not respond).

    Attributes:
        reason: a word or two, by which failures are counted: 'timeout', 'status 500', 'not json'.
    """

    reason: str
