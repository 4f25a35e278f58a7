"""The interface of a text generator: greedy answers to prompts."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """One answer, as stores and explanations hold it.

    Attributes:
        text: answer without special tokens; a writer's text is one line, and '' if there is nothing to summarize.
        prompt_tokens: number of tokens read, including the chat template; 0 without a language model.
        new_tokens: number of tokens generated, including the end token; 0 without a language model.
        seconds: wall time, divided among the prompts of a batch.
        finish: ``stop``, or ``length`` if the answer reached the token limit.
    """

    text: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class GenerationFailure:
    """Why a prompt has no answer, for a reason outside the prompt (such as a server that does not respond).

    Attributes:
        reason: key under which failures are counted: 'timeout', 'status 500', 'not json'.
        detail: message of the server or the network, on one line.
        status: HTTP status, if it is not a success.
    """

    reason: str
    detail: str = ""
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail[:300]}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """How fast a generator reads and writes with all its places taken.

    Attributes:
        seconds_per_prompt_token: seconds to read a token of a prompt, of which the chat template is no part.
        seconds_per_new_token: seconds to generate a token of one of the answers in progress.
        new_tokens: mean number of tokens of an answer.
        seconds_per_call: seconds of a call that depend on none of its tokens.
    """

    seconds_per_prompt_token: float
    seconds_per_new_token: float
    new_tokens: float
    seconds_per_call: float = 0.0


class TextGenerator(Protocol):
    """Answers prompts; equal prompts get equal answers."""

    @property
    def name(self) -> str:
        """The generator's name, as the user wrote it."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that determines its answers, as JSON values: weights, tokenizer, number format."""
        ...

    @property
    def max_prompt_tokens(self) -> int:
        """Maximum number of tokens of prompt and answer together, without the chat template that the generator adds."""
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
        """Yield (position in ``prompts``, answer) as answers become available, in any order, each position once.

        Closing the generator cancels what is in progress.
        """
        ...

    def measure(self, prompts: Sequence[str], n_prompts: int, max_new_tokens: int) -> MeasuredSpeed | None:
        """Measure the speed on a few of ``n_prompts`` prompts in some seconds; None if that could cost money."""
        ...

    def report(self) -> Mapping[str, int]:
        """Counts of events that cost time without changing answers, such as retries and halved batches."""
        ...
