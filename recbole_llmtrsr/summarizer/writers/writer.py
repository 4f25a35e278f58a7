"""The interface of a summary writer."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.summarizer.jobs import Job, Kind


class SummaryWriter(Protocol):
    """Interface of a summary writer, which writes texts from blocks of items and from earlier texts.

    An answer must depend only on its job and the writer's settings. Neither the other jobs passed to ``run`` nor
    earlier calls may change it, because every history that needs the same job shares the text, in this run and in later
    ones.
    """

    @property
    def name(self) -> str:
        """The writer's name, as given in the option ``summarizer``."""
        ...

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, object]:
        """Return everything that determines the answers to jobs of a kind, as JSON values.

        Examples are the model, the wording of prompts, length limits and versions. The store finds earlier answers by
        these settings.

        Args:
            kind: kind of the jobs: ``block``, ``update`` or ``merge``.
            attempt: 0, or 1 for the second attempt after a faulty answer.
        """
        ...

    def wording(self, kind: Kind) -> Sequence[str]:
        """Return the prompt texts that surround the history, which the checks of answers use.

        Return an empty sequence if the answers need no check.
        """
        ...

    def run(self, jobs: Sequence[Job]) -> Generator[list[tuple[int, GeneratedText | GenerationFailure]], None, None]:
        """Yield lists of pairs (position in ``jobs``, answer) as answers become available.

        Yield each position once, in any order. The answers of one list are stored together, so a process that stops
        loses only the answers that it has not yet yielded.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, for cost estimates; 0 without a language model."""
        ...

    def report(self) -> Mapping[str, int]:
        """Return counts since this writer was created, such as tokens read and written, or texts trimmed."""
        ...
