"""The role of a text generator: prompts in, greedy answers out."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer.

    Attributes:
        text: what was generated, without special tokens.
        n_prompt_tokens: tokens read, with those of the chat template.
        n_new_tokens: tokens generated, with the end token.
        finished: whether the model ended by itself.
        seconds: wall time, shared out among the prompts that were answered together.
    """

    text: str
    n_prompt_tokens: int
    n_new_tokens: int
    finished: bool
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NoGeneration:
    """A prompt without an answer.

    Attributes:
        reason: a word or two, by which such prompts are counted: 'timeout', 'status 500', 'not json'.
    """

    reason: str


class TextGenerator(Protocol):
    """Answers prompts; the same prompt gets the same answer."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
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
    ) -> Generator[tuple[int, Generation | NoGeneration], None, None]:
        """Yields (position in ``prompts``, answer) as soon as each is there, in any order, each position once.

        Closing the generator ends what is under way.
        """
        ...

    def report(self) -> Mapping[str, int]:
        """Events that did not change answers but cost time: retries, batches that were halved ..."""
        ...
