"""A generator that uses OpenAI's chat completions API: vLLM, SGLang, llama.cpp, Ollama or a vendor's server."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure, MeasuredSpeed
from recbole_llmtrsr.llm.generators.server_client import BYTES_PER_TOKEN, TEMPLATE_TOKENS, ServerClient
from recbole_llmtrsr.llm.generators.server_replies import read_reply
from recbole_llmtrsr.llm.tokenization.chat import without_markers

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DEFAULT_CONTEXT = 4096  # tokens, unless summarizer_context is set
PATIENCE = 16  # consecutive prompts without an answer that are always tolerated
LIMIT, NEW_LIMIT = (
    "max_tokens",
    "max_completion_tokens",
)  # most servers accept the first, newer models of OpenAI the second


class ServerGenerator(ServerClient):
    """Requests greedy answers from a server; a prompt without an answer after all attempts yields a failure.

    Args:
        model, base_url, api_key, concurrency, timeout, retries: as of `ServerClient`.
        request: additional fields of every request's body, such as a switch of the server's chat template.
        context: maximum number of tokens of prompt and answer together. It determines what is cut and is therefore part
            of every key, so it is not read from the server, but checked against the length that the server states.

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
        request: Mapping[str, object] | None = None,
        context: int = DEFAULT_CONTEXT,
    ) -> None:
        super().__init__(
            "summarizer",
            model,
            base_url,
            api_key=api_key,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
        )
        self.settings: Mapping[str, object] = {
            "kind": "server",
            "model": model,
            "temperature": 0,
            "bytes_per_token": BYTES_PER_TOKEN,
            "context": context,
            **({"request": dict(request)} if request else {}),
        }
        self.max_prompt_tokens = context - TEMPLATE_TOKENS
        self._context = context
        self._further = dict(request or {})
        self._limit = LIMIT
        self._n_unanswered = 0  # prompts since the last answer

    def count_tokens(self, text: str) -> int:
        """Estimate the number of tokens without the server's tokenizer: too high for prose, too low for numbers."""
        return -(-len(text.encode()) // BYTES_PER_TOKEN)

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, as long as ``count_tokens`` allows."""
        return text.encode()[: n_tokens * BYTES_PER_TOKEN].decode(errors="ignore")

    def measure(self, prompts: Sequence[str], n_prompts: int, max_new_tokens: int) -> MeasuredSpeed | None:
        """Return None, as requests can cost money."""
        return None

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> Generator[tuple[int, GeneratedText | GenerationFailure], None, None]:
        """Yield (position, answer) as answers become available. Closing the iterator cancels all open requests.

        Raises:
            UserError: the server cannot be reached, refuses the key, lacks the model, or has stopped answering.
        """

        async def answer(client: AsyncOpenAI, prompt: str, n_workers: int) -> GeneratedText | GenerationFailure:
            return await self._answer(client, prompt, max_new_tokens, n_workers)

        with closing(self.ask(prompts, answer)) as answers:
            yield from answers

    async def _answer(
        self, client: AsyncOpenAI, prompt: str, max_new_tokens: int, n_workers: int
    ) -> GeneratedText | GenerationFailure:
        async def send() -> bytes:
            # Neither `n` nor `seed`: some servers refuse unknown fields, and greedy decoding needs neither.
            self._n_sent += 1
            reply = await client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": without_markers(prompt)}],
                temperature=0,
                extra_body={self._limit: max_new_tokens, **self._further},
            )
            return reply.content

        start = time.perf_counter()
        limit, reply = self._limit, await self._requests.persist(send, read_reply)
        if (
            isinstance(reply, GenerationFailure)
            and reply.status == 400
            and NEW_LIMIT in reply.detail
            and limit == LIMIT
        ):
            self._limit = NEW_LIMIT
            reply = await self._requests.persist(send, read_reply)
        if isinstance(reply, GenerationFailure):
            self._check_failure(reply)
            return reply
        self._n_unanswered = 0
        return replace(
            reply,
            prompt_tokens=reply.prompt_tokens or self.count_tokens(prompt),
            new_tokens=reply.new_tokens or self.count_tokens(reply.text),
            seconds=(time.perf_counter() - start) / n_workers,
        )

    def _check_context(self, stated: int) -> None:
        if stated < self._context:
            raise UserError(
                f"summarizer '{self.name}@{self._url}' has a context of {stated} tokens, but summarizer_context"
                f" is {self._context}: set summarizer_context: {stated}"
            )

    def _check_failure(self, failure: GenerationFailure) -> None:
        super()._check_failure(failure)
        self._n_unanswered += 1
        if self._n_unanswered > max(PATIENCE, 2 * self._concurrency):
            self._refuse(
                failure,
                f"gave no answer to {self._n_unanswered} prompts in a row",
                "finished texts are in the store, from which a rerun continues; see the server's log, and"
                " summarizer_timeout, summarizer_retries and summarizer_context",
            )
