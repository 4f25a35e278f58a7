"""A client of OpenAI's API: vLLM, SGLang, llama.cpp, Ollama or a vendor's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar
from urllib.parse import urlsplit

from recbole_llmtrsr.errors import UserError, did_you_mean
from recbole_llmtrsr.llm.generators.generation import GenerationFailure
from recbole_llmtrsr.llm.generators.server_replies import read_models
from recbole_llmtrsr.llm.generators.server_requests import Requests
from recbole_llmtrsr.runtime.network import proxy_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")
Role = Literal["summarizer", "scorer"]

PREFIX = "openai:"
BYTES_PER_TOKEN = 3  # of UTF-8; most texts have more with a large vocabulary, so prompt lengths are overestimated
TEMPLATE_TOKENS = 64  # reserved for the server's chat template
LIST_TIMEOUT = 30.0  # seconds, for the list of models


def parse_server(value: str, role: Role = "summarizer") -> tuple[str, str]:
    """Model and base url of 'openai:<model>@<base url>'; the url follows the last '@'.

    >>> parse_server("openai:Qwen/Qwen3-8B@http://localhost:8000/v1")
    ('Qwen/Qwen3-8B', 'http://localhost:8000/v1')

    Raises:
        UserError: one of the two is missing or the url is invalid; a name or password in the url is not shown.
    """
    model, at, url = value.removeprefix(PREFIX).rpartition("@")
    if "://" in model:
        raise UserError(
            f"{role} '{value.partition('://')[0]}://...' has a name or password in its url: remove it, and put the"
            f" key into the environment variable that {role}_api_key_variable names"
        )
    form = "write openai:<model>@<base url>, such as openai:Qwen/Qwen3-8B@http://localhost:8000/v1"
    if not value.startswith(PREFIX) or not at or not model.strip():
        raise UserError(f"{role} '{PREFIX}...' lacks {'a model' if at else '@<base url>'}: {form}")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is not one
        valid = False
    if not valid or any(character.isspace() or character in "?#" for character in url):
        raise UserError(
            f"{role} '{PREFIX}...' has the base url {url.partition('?')[0]!r}; accepted are"
            f" http://<host>[:<port>][/<path>] and https://: {form}"
        )
    return model, url.rstrip("/")


class ServerClient:
    """Sends prompts to one model of a server, several at a time.

    A request without a usable answer is repeated after an exponential delay with jitter, or the delay that the server
    states. Errors that concern all prompts, such as a missing model, end the run. The first request is made for the
    first prompt.

    Args:
        role: the option that names the server, for messages.
        model: name of the model on the server.
        base_url: url without '/chat/completions'.
        api_key: key that is sent to the server and never shown.
        concurrency: maximum number of concurrent requests.
        timeout: maximum seconds per attempt, from connecting to the last byte.
        retries: number of further attempts per prompt.

    Attributes:
        name: 'openai:<model>'.

    Raises:
        UserError: the package `openai` is missing, or the key cannot be sent.
    """

    def __init__(
        self,
        role: Role,
        model: str,
        base_url: str,
        *,
        api_key: str | None,
        concurrency: int,
        timeout: float,
        retries: int,
    ) -> None:
        self.name = f"{PREFIX}{model}"
        self._role, self._model, self._url, self._concurrency = role, model, base_url, concurrency
        self._requests = Requests(base_url, api_key, timeout, retries, f"{role}_api_key_variable")
        self._models: dict[str, int | None] | None = None  # models that the server lists; None before the first request
        self._n_sent = 0

    def report(self) -> Mapping[str, int]:
        """Requests for answers, and retries by cause."""
        retries = {f"retries_{reason.replace(' ', '_')}": n for reason, n in self._requests.retried.items()}
        return {"requests": self._n_sent, **retries}

    def ask(
        self, prompts: Sequence[str], answer: Callable[[AsyncOpenAI, str, int], Awaitable[T]]
    ) -> Generator[tuple[int, T], None, None]:
        """Yield (position, answer) as answers become available. Closing the iterator cancels all open requests.

        Args:
            prompts: the prompts.
            answer: answers a prompt with a client; the third argument is the number of requests at a time.

        Raises:
            UserError: the server cannot be reached, refuses the key or lacks the model; or what `answer` raises.
        """
        if not prompts:
            return
        from anyio.from_thread import start_blocking_portal

        # In a separate thread, because the caller's may run an event loop already, as notebooks do.
        with start_blocking_portal() as portal:
            answers = self._answers(prompts, answer)
            with suppress(StopAsyncIteration):
                while True:
                    yield portal.call(answers.__anext__)

    async def _answers(
        self, prompts: Sequence[str], answer: Callable[[AsyncOpenAI, str, int], Awaitable[T]]
    ) -> AsyncGenerator[tuple[int, T], None]:
        n_together = min(self._concurrency, len(prompts))

        async def numbered(position: int, prompt: str) -> tuple[int, T]:
            return position, await answer(client, prompt, n_together)

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
        if stated is not None:
            self._check_context(stated)

    def _check_context(self, stated: int) -> None:
        """Refuse a context, as the server states it in tokens, that is too short."""

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

    def _refuse_key(self, failure: GenerationFailure) -> NoReturn:
        what = "refuses the key" if self._requests.has_key else "refuses requests without a key"
        remedy = f"put a valid key into the environment variable that {self._role}_api_key_variable names"
        self._refuse(failure, what, remedy)

    def _refuse(self, failure: GenerationFailure, what: str, remedy: str) -> NoReturn:
        proxy = proxy_of(self._url)
        if proxy is not None:
            what += f" (through the proxy of {proxy})"
            remedy += "; or correct the proxy, or add the server's host to NO_PROXY"
        raise UserError(f"{self._role} '{self.name}@{self._url}' {what} ({failure}): {remedy}")
