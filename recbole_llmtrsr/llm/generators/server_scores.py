"""Zero-shot scores by a model behind a server, from the log-probabilities of an answer's first token.

    score = log P(yes) - log P(no)

P(t) is the probability, over the whole vocabulary, that the answer begins with t; the normalizer cancels, so that the
score equals the log-odds that a local backbone computes from its two logits.

Source: Zheng et al. (WWW 2024) score a candidate by the two-way softmax of the yes and no logits.

Deviation: servers state the most likely tokens only, as texts. If one answer is not among them, the smallest
log-probability among them bounds that of the answer and takes its place. An answer's probability is the sum over tokens
that are its text with or without a space in front, since whether the space belongs to the token depends on the
tokenizer, which is unknown here; a local backbone reads one of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GenerationFailure
from recbole_llmtrsr.llm.generators.server_client import TEMPLATE_TOKENS, ServerClient
from recbole_llmtrsr.llm.generators.server_replies import FirstToken, read_first_token
from recbole_llmtrsr.llm.tokenization.chat import without_markers

if TYPE_CHECKING:
    from openai import AsyncOpenAI

VERSION = 1  # of requests and of the reading of replies
# Numbers of most likely tokens to request: the first that the server accepts. OpenAI and vLLM state 20 at most by
# default, OpenAI's completions 5.
TOP = (100, 20, 5)
LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"
_SPACES = " \u2581\u0120"  # how vocabularies write a space in front of a token


@dataclass(frozen=True, slots=True)
class AnswerLogprobs:
    """What a server states of the two answers to one prompt.

    Attributes:
        yes: log-probability of the positive answer; None if it is not among the most likely tokens.
        no: likewise of the negative answer.
        least: the smallest log-probability of the most likely tokens, an upper bound on that of any other token.
        first: the most likely token.
        prompt_tokens: number of tokens read; 0 if the server does not state it.
        seconds: wall time, divided by the number of requests at a time.
    """

    yes: float | None
    no: float | None
    least: float
    first: str
    prompt_tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, found: FirstToken, answers: tuple[str, str], seconds: float = 0.0) -> AnswerLogprobs:
        """Find the answers among the most likely tokens, of which there must be one."""
        yes, no = (_logprob(found.logprobs, answer) for answer in answers)
        least = min(value for _, value in found.logprobs)
        first, _ = max(found.logprobs, key=lambda one: one[1])
        return cls(yes, no, least, first, found.prompt_tokens, seconds)

    @property
    def n_missing(self) -> int:
        """Number of answers that are not among the most likely tokens."""
        return (self.yes is None) + (self.no is None)

    @property
    def log_odds(self) -> float:
        """Log-odds of yes; a missing answer has its upper bound, so that the score is 0 if both are missing."""
        yes = self.least if self.yes is None else self.yes
        return yes - (self.least if self.no is None else self.no)


def _logprob(logprobs: Sequence[tuple[str, float]], answer: str) -> float | None:
    own = [value for token, value in logprobs if token.lstrip(_SPACES) == answer]
    if not own:
        return None
    most = max(own)
    return most + math.log(sum(math.exp(value - most) for value in own)) if math.isfinite(most) else None


class ServerScores(ServerClient):
    """Requests the log-probabilities of two answers, with one token per prompt.

    A prompt without an answer after all attempts ends the run, as a candidate cannot be ranked without a score. The
    first prompt is sent alone, so that a server without log-probabilities is found at one request.

    Args:
        model, base_url, api_key, concurrency, timeout, retries: as of `ServerClient`.
        answers: the positive and the negative answer.
        chat: sends a prompt as a user's message, for the server's chat template; otherwise as plain text.
        request: additional fields of every request's body.
        max_prompt_tokens: longest prompt, which is checked against the context that the server states.

    Attributes:
        settings: everything that determines a score, as JSON values.

    Raises:
        UserError: the package `openai` is missing, or the key cannot be sent.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | None,
        concurrency: int,
        timeout: float,
        retries: int,
        answers: tuple[str, str],
        chat: bool,
        request: Mapping[str, object] | None = None,
        max_prompt_tokens: int = 0,
    ) -> None:
        super().__init__(
            "scorer", model, base_url, api_key=api_key, concurrency=concurrency, timeout=timeout, retries=retries
        )
        self.settings: Mapping[str, object] = {
            "kind": "server scores",
            "version": VERSION,
            "model": model,
            "answers": list(answers),
            "chat": chat,
            **({"request": dict(request)} if request else {}),
        }
        self.answers = answers
        self._chat, self._further, self._max_prompt_tokens = chat, dict(request or {}), max_prompt_tokens
        self._limit, self._tops = LIMIT, list(TOP)
        self._is_checked = False

    @property
    def n_top(self) -> int:
        """Number of most likely tokens that are requested of each prompt."""
        return self._tops[0]

    @property
    def is_limited(self) -> bool:
        """Whether the server refused the larger numbers of most likely tokens."""
        return self.n_top < TOP[0]

    def scores(self, prompts: Sequence[str]) -> Generator[tuple[int, AnswerLogprobs], None, None]:
        """Yield (position, log-probabilities) as they become available. Closing the iterator cancels open requests.

        Raises:
            UserError: the server cannot be reached, refuses the key, lacks the model, states no log-probabilities, or
                does not answer a prompt.
        """
        alone = 0 if self._is_checked else 1
        for begin, part in ((0, prompts[:alone]), (alone, prompts[alone:])):
            with closing(self.ask(part, self._score)) as answers:
                for position, answer in answers:
                    self._is_checked = True
                    yield begin + position, answer

    async def _score(self, client: AsyncOpenAI, prompt: str, n_workers: int) -> AnswerLogprobs:
        async def send() -> bytes:
            self._n_sent += 1
            return await self._send(client, without_markers(prompt))

        start = time.perf_counter()
        while isinstance(reply := await self._requests.persist(send, self._read), GenerationFailure):
            if not self._adapts_to(reply):
                self._check_failure(reply)
        return AnswerLogprobs.of(reply, self.answers, (time.perf_counter() - start) / n_workers)

    async def _send(self, client: AsyncOpenAI, text: str) -> bytes:
        if self._chat:
            fields = {self._limit: 1, "logprobs": True, "top_logprobs": self.n_top, **self._further}
            chat = await client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": text}],
                temperature=0,
                extra_body=fields,
            )
            return chat.content
        fields = {LIMIT: 1, "logprobs": self.n_top, **self._further}
        plain = await client.completions.with_raw_response.create(
            model=self._model, prompt=text, temperature=0, extra_body=fields
        )
        return plain.content

    def _adapts_to(self, failure: GenerationFailure) -> bool:
        """Whether another request remains to be tried after the first was refused."""
        if self._is_checked or failure.status not in (400, 422):
            return False
        if self._chat and self._limit == LIMIT and NEW_LIMIT in failure.detail:
            self._limit = NEW_LIMIT
        elif len(self._tops) > 1:
            del self._tops[0]
        else:
            return False
        return True

    def _read(self, body: str) -> FirstToken | GenerationFailure:
        found = read_first_token(body)
        if isinstance(found, GenerationFailure):
            return found
        where = f"scorer '{self.name}@{self._url}'"
        if found.n_choices != 1:
            raise UserError(f"{where} returns {found.n_choices} answers to one prompt: remove n from scorer_request")
        if len(found.logprobs) < 2:
            other = "never" if self._chat else "auto"
            raise UserError(
                f"{where} returns no log-probabilities of the most likely first tokens, from which scores are computed:"
                " choose a server that does (vLLM, SGLang and llama.cpp do), or try the other kind of request with"
                f" chat_template: {other}"
            )
        return found

    def _check_context(self, stated: int) -> None:
        if stated < self._max_prompt_tokens + TEMPLATE_TOKENS:
            raise UserError(
                f"scorer '{self.name}@{self._url}' has a context of {stated} tokens, too few for max_prompt_tokens:"
                f" {self._max_prompt_tokens} and the chat template: set max_prompt_tokens:"
                f" {max(0, stated - TEMPLATE_TOKENS)} or less"
            )

    def _check_failure(self, failure: GenerationFailure) -> None:
        super()._check_failure(failure)
        remedy = (
            "finished scores are in the store, from which a rerun continues; see the server's log, and"
            " summarizer_timeout and summarizer_retries"
        )
        if failure.status in (400, 422):
            remedy = (
                "if it does not take prompts in its chat template, set chat_template: never; if prompts are too long"
                " for it, lower max_prompt_tokens; if it does not state log-probabilities, choose another server"
            )
        self._refuse(failure, "gave no score for a prompt", remedy)
