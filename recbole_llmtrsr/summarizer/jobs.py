"""The jobs of a writer, which answers each with a ``GeneratedText``."""

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
        kind: ``block`` (summarize items), ``update`` (update an earlier text with items) or ``merge`` (merge earlier
            texts).
        items: items of the block, oldest first; empty for a merge.
        inputs: earlier texts, oldest first; none for a block, one for an update. Each text is a single line, and empty
            if its items have no text.
        attempt: 0, or 1 for the second attempt after a faulty answer.
    """

    kind: Kind
    items: tuple[Item, ...] = ()
    inputs: tuple[str, ...] = ()
    attempt: int = 0


def __getattr__(name: str) -> type:
    """Support names that users' writers imported from the previous version."""
    if name not in ("Answer", "Failure"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    now: type = GeneratedText if name == "Answer" else GenerationFailure
    getLogger().warning(f"{__name__}.{name} is now called {now.__module__}.{now.__name__}: import that")
    return now
