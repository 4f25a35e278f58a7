"""The interface of a summary writer."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.summarizer.jobs import Job, Kind


class SummaryWriter(Protocol):
    """Writes texts from blocks and earlier texts, many independent jobs at a time.

    An answer depends on its job and the writer's settings alone: neither the other jobs of the call nor earlier calls
    may change it, because one text serves every history that needs the same job, in this run and in later ones.
    """

    @property
    def name(self) -> str:
        """Name of the writer, as in the option ``summarizer``."""
        ...

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, object]:
        """All that determines the answers to jobs of a kind, as JSON values: model, wording, limits, versions."""
        ...

    def wording(self, kind: Kind) -> Sequence[str]:
        """Wording of the prompts beside the history, for the checks of answers; empty if answers need no check."""
        ...

    def run(self, jobs: Sequence[Job]) -> Generator[list[tuple[int, GeneratedText | GenerationFailure]], None, None]:
        """Yield pairs (position in ``jobs``, answer) as they become available, in any order, each position once.

        What is yielded together is stored together: only what is not yet yielded is lost with the process.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, for cost estimates; 0 without a language model."""
        ...

    def report(self) -> Mapping[str, int]:
        """Counts since this writer was made: tokens read and written, texts trimmed ..."""
        ...
