"""The role of a text generator: prompts in, greedy answers out."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """One text, from the generator or writer that wrote it to the store and the explanation that show it.

    Attributes:
        text: of a generator without special tokens; of a writer on one line, and '' where there is nothing to say.
        prompt_tokens: tokens read, with those of the chat template; 0 without a language model.
        new_tokens: tokens written, with the end token; 0 without a language model.
        seconds: wall time, shared out among the prompts that were answered together.
        finish: ``stop``, or ``length`` where the text was cut off at the limit.
    """

    text: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class GenerationFailure:
    """Why there is no text, for a reason outside of what was asked (a server that does not respond).

    Attributes:
        reason: a word or two, by which failures are counted: 'timeout', 'status 500', 'not json'.
        detail: what a server or the network said, on one line.
        status: of HTTP, where there was one that is not a success.
    """

    reason: str
    detail: str = ""
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail[:300]}" if self.detail else self.reason


class TextGenerator(Protocol):
    """Answers prompts; the same prompt gets the same answer."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """All that determines its answers, as JSON values: weights, tokenizer, number format."""
        ...

    @property
    def max_prompt_tokens(self) -> int:
        """Room for prompt and answer together, without what the generator adds itself."""
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text."""
        ...

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long, ending between two characters."""
        ...

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> Generator[tuple[int, GeneratedText | GenerationFailure], None, None]:
        """Yields (position in ``prompts``, answer) as soon as each is there, in any order, each position once.

        Closing the generator ends what is under way.
        """
        ...

    def report(self) -> Mapping[str, int]:
        """Events that did not change answers but cost time: retries, batches that were halved ..."""
        ...
