"""A generator that uses OpenAI's chat completions API: vLLM, SGLang, llama.cpp, Ollama or a vendor's server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from recbole_llmtrsr.errors import UserError, did_you_mean
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure, MeasuredSpeed
from recbole_llmtrsr.llm.generators.server_replies import read_models, read_reply
from recbole_llmtrsr.llm.generators.server_requests import Requests
from recbole_llmtrsr.llm.tokenization.chat import without_markers
from recbole_llmtrsr.runtime.network import proxy_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PREFIX = "openai:"
BYTES_PER_TOKEN = 3  # of UTF-8; most texts have more with a large vocabulary, so prompt lengths are overestimated
TEMPLATE_TOKENS = 64  # reserved for the server's chat template
DEFAULT_CONTEXT = 4096  # tokens, unless summarizer_context is set
PATIENCE = 16  # consecutive prompts without an answer that are always tolerated
LIST_TIMEOUT = 30.0  # seconds, for the list of models
LIMIT, NEW_LIMIT = (
    "max_tokens",
    "max_completion_tokens",
)  # most servers accept the first, newer models of OpenAI the second


def parse_server(value: str) -> tuple[str, str]:
    """Model and base url of 'openai:<model>@<base url>'; the url follows the last '@'.

    >>> parse_server("openai:Qwen/Qwen3-8B@http://localhost:8000/v1")
    ('Qwen/Qwen3-8B', 'http://localhost:8000/v1')

    Raises:
        UserError: one of the two is missing or the url is invalid; a name or password in the url is not shown.
    """
    model, at, url = value.removeprefix(PREFIX).rpartition("@")
    if "://" in model:
        raise UserError(
            f"summarizer '{value.partition('://')[0]}://...' has a name or password in its url: remove it, and put the"
            " key into the environment variable that summarizer_api_key_variable names"
        )
    form = "write openai:<model>@<base url>, such as openai:Qwen/Qwen3-8B@http://localhost:8000/v1"
    if not value.startswith(PREFIX) or not at or not model.strip():
        raise UserError(f"summarizer '{PREFIX}...' lacks {'a model' if at else '@<base url>'}: {form}")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is not one
        valid = False
    if not valid or any(character.isspace() or character in "?#" for character in url):
        raise UserError(
            f"summarizer '{PREFIX}...' has the base url {url.partition('?')[0]!r}; accepted are"
            f" http://<host>[:<port>][/<path>] and https://: {form}"
        )
    return model, url.rstrip("/")


class ServerGenerator:
    """Requests greedy answers from a server, several at a time.

    A request without a usable answer is repeated after an exponential delay with jitter, or the delay that the server
    states. A prompt without an answer after all attempts yields a failure; errors that concern all prompts, such as a
    missing model, end the run. The first request is made for the first prompt.

    Args:
        model: name of the model on the server.
        base_url: url without '/chat/completions'.
        api_key: key that is sent to the server and never shown.
        concurrency: maximum number of concurrent requests.
        timeout: maximum seconds per attempt, from connecting to the last byte.
        retries: number of further attempts per prompt.
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
        self.name = f"{PREFIX}{model}"
        self.settings: Mapping[str, object] = {
            "kind": "server",
            "model": model,
            "temperature": 0,
            "bytes_per_token": BYTES_PER_TOKEN,
            "context": context,
            **({"request": dict(request)} if request else {}),
        }
        self.max_prompt_tokens = context - TEMPLATE_TOKENS
        self._model, self._url, self._context, self._concurrency = model, base_url, context, concurrency
        self._requests = Requests(base_url, api_key, timeout, retries)
        self._models: dict[str, int | None] | None = None  # models that the server lists; None before the first request
        self._further = dict(request or {})
        self._limit = LIMIT
        self._n_sent = 0
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

    def report(self) -> Mapping[str, int]:
        """Requests for answers, and retries by cause."""
        retries = {f"retries_{reason.replace(' ', '_')}": n for reason, n in self._requests.retried.items()}
        return {"requests": self._n_sent, **retries}

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> Generator[tuple[int, GeneratedText | GenerationFailure], None, None]:
        """Yield (position, answer) as answers become available. Closing the iterator cancels all open requests.

        Raises:
            UserError: the server cannot be reached, refuses the key, lacks the model, or has stopped answering.
        """
        if not prompts:
            return
        from anyio.from_thread import start_blocking_portal

        # In a separate thread, because the caller's may run an event loop already, as notebooks do.
        with start_blocking_portal() as portal:
            answers = self._answers(prompts, max_new_tokens)
            with suppress(StopAsyncIteration):
                while True:
                    yield portal.call(answers.__anext__)

    async def _answers(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> AsyncGenerator[tuple[int, GeneratedText | GenerationFailure], None]:
        n_together = min(self._concurrency, len(prompts))

        async def numbered(position: int, prompt: str) -> tuple[int, GeneratedText | GenerationFailure]:
            return position, await self._answer(client, prompt, max_new_tokens, n_together)

        async with self._requests.client() as client:
            await self._check_server(client)
            waiting = (asyncio.create_task(numbered(*prompt)) for prompt in enumerate(prompts))
            running = set(islice(waiting, n_together))
            try:
                while running:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    if not any(task.exception() for task in done):
                        running |= set(islice(waiting, len(done)))
                    for task in sorted(done, key=lambda task: task.exception() is not None):  # keep the answers
                        yield task.result()
            finally:
                for task in running:
                    task.cancel()

    async def _check_server(self, client: AsyncOpenAI) -> None:
        """Before the first prompt, list the server's models and check the context of the one in use."""
        if self._models is not None:
            return

        async def send() -> bytes:
            return (await client.models.with_raw_response.list()).content

        # `transformers serve` always fails with 500 if its cache holds no model, so that status is not retried.
        models = await self._requests.persist(send, read_models, LIST_TIMEOUT, lasting=500)
        if isinstance(models, GenerationFailure):  # many servers answer prompts without listing models
            if models.status is None:
                self._refuse(models, "cannot be reached", "start the server, or correct the base url")
            if models.status == 401:
                self._refuse_key(models)
            models = {}
        self._models = models
        stated = models.get(self._model)
        if stated is not None and stated < self._context:
            raise UserError(
                f"summarizer '{self.name}@{self._url}' has a context of {stated} tokens, but summarizer_context"
                f" is {self._context}: set summarizer_context: {stated}"
            )

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

    def _check_failure(self, failure: GenerationFailure) -> None:
        """Stop after a failure that all other prompts would have, too."""
        if failure.status in (401, 403):
            self._refuse_key(failure)
        if failure.status == 404:
            models = sorted(self._models or ())
            shown = f"it lists {', '.join(models[:20])}{', ...' if models[20:] else ''}" if models else "it lists none"
            meant = did_you_mean(self._model, models, form=" ({})")
            remedy = f"{shown}{meant}; check the base url, too, which usually ends in /v1"
            self._refuse(failure, f"has no model {self._model!r}", remedy)
        self._n_unanswered += 1
        if self._n_unanswered > max(PATIENCE, 2 * self._concurrency):
            self._refuse(
                failure,
                f"gave no answer to {self._n_unanswered} prompts in a row",
                "finished texts are in the store, from which a rerun continues; see the server's log, and"
                " summarizer_timeout, summarizer_retries and summarizer_context",
            )

    def _refuse_key(self, failure: GenerationFailure) -> NoReturn:
        what = "refuses the key" if self._requests.has_key else "refuses requests without a key"
        remedy = "put a valid key into the environment variable that summarizer_api_key_variable names"
        self._refuse(failure, what, remedy)

    def _refuse(self, failure: GenerationFailure, what: str, remedy: str) -> NoReturn:
        proxy = proxy_of(self._url)
        if proxy is not None:
            what += f" (through the proxy of {proxy})"
            remedy += "; or correct the proxy, or add the server's host to NO_PROXY"
        raise UserError(f"summarizer '{self.name}@{self._url}' {what} ({failure}): {remedy}")
