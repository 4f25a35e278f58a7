"""The role of a summary writer."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.summarizer.jobs import Job, Kind


class SummaryWriter(Protocol):
    """Turns blocks and earlier texts into texts, many independent jobs at a time.

    An answer depends on its job and the writer's settings alone: neither the other jobs of the call nor earlier calls
    may change it, because one text serves every history that needs the same job, in this run and in later ones.
    """

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, object]:
        """All that determines the answers to jobs of a kind, as JSON values: model, wording, limits, versions."""
        ...

    def wording(self, kind: Kind) -> Sequence[str]:
        """What a prompt says beside the history, for the checks of answers; empty where no answer needs a check."""
        ...

    def run(self, jobs: Sequence[Job]) -> Generator[list[tuple[int, GeneratedText | GenerationFailure]], None, None]:
        """Yields (position in ``jobs``, answer) as soon as they are there, in any order, each position once.

        What is yielded together is stored together: only what is not yet yielded is lost with the process.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, by which a plan's cost is told; 0 without a language model."""
        ...

    def report(self) -> Mapping[str, int]:
        """What was read, written, trimmed ... since this writer was made."""
        ...
