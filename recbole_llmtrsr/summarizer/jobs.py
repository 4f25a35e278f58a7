"""The jobs of a writer; it answers each with a ``GeneratedText``."""

from __future__ import annotations

from dataclasses import dataclass
from logging import getLogger
from typing import Literal, get_args

from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure

Kind = Literal["block", "update", "merge"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Job:
    """One text to write.

    Attributes:
        kind: ``block`` (summarize items), ``update`` (take items into an earlier text) or ``merge`` (earlier texts).
        items: items of its block, oldest first; none in a merge.
        inputs: earlier texts, oldest first: none in a block, one in an update. Each is one line, '' where there is
            nothing to say.
        attempt: 0, or 1 for the second attempt after a faulty answer.
    """

    kind: Kind
    items: tuple[Item, ...] = ()
    inputs: tuple[str, ...] = ()
    attempt: int = 0


def __getattr__(name: str) -> type:
    """Names that writers of users imported in the previous version."""
    if name not in ("Answer", "Failure"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    now: type = GeneratedText if name == "Answer" else GenerationFailure
    getLogger().warning(f"{__name__}.{name} is now called {now.__module__}.{now.__name__}: import that")
    return now
