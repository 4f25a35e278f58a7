"""A generator that asks a server with the chat completions of OpenAI: vLLM, SGLang, llama.cpp, Ollama, a vendor's."""

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
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.llm.generators.server_replies import read_models, read_reply
from recbole_llmtrsr.llm.generators.server_requests import Requests
from recbole_llmtrsr.llm.tokenization.chat import without_markers
from recbole_llmtrsr.runtime.network import proxy_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PREFIX = "openai:"
BYTES_PER_TOKEN = 3  # of UTF-8; most texts have more with a large vocabulary, so that prompts are over-estimated
TEMPLATE_TOKENS = 64  # left for what the server's chat template adds to a prompt
DEFAULT_CONTEXT = 4096  # tokens, where the user does not tell
PATIENCE = 16  # prompts in a row without an answer that are always put up with
LIST_TIMEOUT = 30.0  # seconds; a list of models needs no thinking
LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"  # servers know the first, newer models of OpenAI the second


def parse_server(value: str) -> tuple[str, str]:
    """Model and base url of 'openai:<model>@<base url>'; the url is what follows the last '@'.

    >>> parse_server("openai:Qwen/Qwen3-8B@http://localhost:8000/v1")
    ('Qwen/Qwen3-8B', 'http://localhost:8000/v1')

    Raises:
        UserError: one of the two is missing or the url is not one; a name or password in the url is not shown.
    """
    model, at, url = value.removeprefix(PREFIX).rpartition("@")
    if "://" in model:
        raise UserError(
            f"summarizer '{value.partition('://')[0]}://...' has a name or password in its url: take it out, a key is"
            " read from the environment variable that summarizer_api_key_variable names"
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
    """Greedy answers of a server, several requests at a time.

    A request that gets no usable answer is repeated after a growing, random delay, or when the server asks for it. What
    remains without an answer is yielded as such; where it is clear that all requests would, the run is refused.
    Making one asks nothing: the first contact is at the first prompt.

    Args:
        model: its name on the server.
        base_url: what comes before '/chat/completions'.
        api_key: sent to the server, and shown nowhere.
        concurrency: most requests under way at a time.
        timeout: most seconds of one attempt, from connecting to the last byte.
        retries: further attempts per prompt.
        request: further fields of every request's body, such as a switch of the server's chat template.
        context: tokens that prompt and answer may have together; not asked of the server, because it decides what is
            cut and so belongs to what answers are known by, but checked against what the server says.

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
        self.max_prompt_tokens = context - TEMPLATE_TOKENS  # room for prompt and answer together
        self._model, self._url, self._context, self._concurrency = model, base_url, context, concurrency
        self._requests = Requests(base_url, api_key, timeout, retries)
        self._models: dict[str, int | None] | None = None  # that the server lists; None: not asked yet
        self._further = dict(request or {})
        self._limit = LIMIT
        self._n_sent = 0
        self._n_unanswered = 0  # prompts since the last answer

    def count_tokens(self, text: str) -> int:
        """An estimate, since the server's tokenizer is not known; for prose too many, for long numbers too few."""
        return -(-len(text.encode()) // BYTES_PER_TOKEN)

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, as long as ``count_tokens`` allows."""
        return text.encode()[: n_tokens * BYTES_PER_TOKEN].decode(errors="ignore")

    def report(self) -> Mapping[str, int]:
        """Requests for answers, and retries by cause."""
        retries = {f"retries_{reason.replace(' ', '_')}": n for reason, n in self._requests.retried.items()}
        return {"requests": self._n_sent, **retries}

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> Generator[tuple[int, GeneratedText | GenerationFailure], None, None]:
        """Yields (position, answer) as soon as each is there. Closing the iterator ends all requests under way.

        Raises:
            UserError: the server is not there, refuses the key, does not know the model, or answers nothing any more.
        """
        if not prompts:
            return
        from anyio.from_thread import start_blocking_portal

        # A thread of its own, because the caller's may run an event loop already, as notebooks do.
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
            await self._meet(client)
            waiting = (asyncio.create_task(numbered(*prompt)) for prompt in enumerate(prompts))
            running = set(islice(waiting, n_together))
            try:
                while running:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    if not any(task.exception() for task in done):
                        running |= set(islice(waiting, len(done)))
                    for task in sorted(done, key=lambda task: task.exception() is not None):  # keep what was answered
                        yield task.result()
            finally:
                for task in running:
                    task.cancel()

    async def _meet(self, client: AsyncOpenAI) -> None:
        """First contact: is somebody there, which models are there, and how much does ours take?"""
        if self._models is not None:
            return

        async def send() -> bytes:
            return (await client.models.with_raw_response.list()).content

        # `transformers serve` never lists models where its cache has none; that is not worth waiting for.
        models = await self._requests.persist(send, read_models, LIST_TIMEOUT, lasting=500)
        if isinstance(models, GenerationFailure):  # many servers answer prompts without listing models
            if models.status is None:
                self._refuse(models, "is not there", "start the server, or correct the base url")
            if models.status == 401:
                self._refuse_key(models)
            models = {}
        self._models = models
        stated = models.get(self._model)
        if stated is not None and stated < self._context:
            raise UserError(
                f"summarizer '{self.name}@{self._url}' takes {stated} tokens and summarizer_context is {self._context}:"
                f" set summarizer_context: {stated}"
            )

    async def _answer(
        self, client: AsyncOpenAI, prompt: str, max_new_tokens: int, n_workers: int
    ) -> GeneratedText | GenerationFailure:
        async def send() -> bytes:
            # Neither `n` nor `seed`: some servers refuse what they do not know, and greedy decoding needs neither.
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
            and limit == LIMIT
            and NEW_LIMIT in reply.detail
        ):
            self._limit = NEW_LIMIT
            reply = await self._requests.persist(send, read_reply)
        if isinstance(reply, GenerationFailure):
            self._check_hope(reply)
            return reply
        self._n_unanswered = 0
        return replace(
            reply,
            prompt_tokens=reply.prompt_tokens or self.count_tokens(prompt),
            new_tokens=reply.new_tokens or self.count_tokens(reply.text),
            seconds=(time.perf_counter() - start) / n_workers,
        )

    def _check_hope(self, failure: GenerationFailure) -> None:
        """Refuse to go on after a failure that all other prompts would meet too."""
        if failure.status in (401, 403):
            self._refuse_key(failure)
        if failure.status == 404:
            models = sorted(self._models or ())
            shown = f"it lists {', '.join(models[:20])}{', ...' if models[20:] else ''}" if models else "it lists none"
            meant = did_you_mean(self._model, models, form=" ({})")
            remedy = f"{shown}{meant}; most base urls end in /v1, check this one too"
            self._refuse(failure, f"has no model {self._model!r}", remedy)
        self._n_unanswered += 1
        if self._n_unanswered > max(PATIENCE, 2 * self._concurrency):
            self._refuse(
                failure,
                f"gave no answer to {self._n_unanswered} prompts in a row",
                "what it wrote before is in the store, a rerun goes on from there; see the server's log, and"
                " summarizer_timeout, summarizer_retries and summarizer_context",
            )

    def _refuse_key(self, failure: GenerationFailure) -> NoReturn:
        what = "refuses the key" if self._requests.has_key else "refuses requests without a key"
        remedy = "put a valid one into the environment variable that summarizer_api_key_variable names"
        self._refuse(failure, what, remedy)

    def _refuse(self, failure: GenerationFailure, what: str, remedy: str) -> NoReturn:
        proxy = proxy_of(self._url)
        if proxy is not None:
            what += f", asked through the proxy of {proxy},"
            remedy += "; or correct the proxy, or add the server's host to NO_PROXY"
        raise UserError(f"summarizer '{self.name}@{self._url}' {what} ({failure}): {remedy}")
