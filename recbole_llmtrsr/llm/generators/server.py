"""A generator that asks a server with the chat completions of OpenAI: vLLM, SGLang, llama.cpp, Ollama, a vendor's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import Generation, NoGeneration
from recbole_llmtrsr.llm.generators.server_refusals import Refusals
from recbole_llmtrsr.llm.generators.server_replies import Fault, Reply, read_models, read_reply
from recbole_llmtrsr.llm.generators.server_requests import Requests
from recbole_llmtrsr.llm.tokenization.chat import without_markers

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PREFIX = "openai:"
BYTES_PER_TOKEN = 3  # of UTF-8; most texts have more with a large vocabulary, so that prompts are over-estimated
TEMPLATE_TOKENS = 64  # left for what the server's chat template adds to a prompt
DEFAULT_CONTEXT = 4096  # tokens, where the user does not tell
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
        request: Mapping[str, Any] | None = None,
        context: int = DEFAULT_CONTEXT,
    ) -> None:
        self.name = f"{PREFIX}{model}"
        self.settings: Mapping[str, Any] = {
            "kind": "server",
            "model": model,
            "temperature": 0,
            "bytes_per_token": BYTES_PER_TOKEN,
            "context": context,
            **({"request": dict(request)} if request else {}),
        }
        self.max_prompt_tokens = context - TEMPLATE_TOKENS  # room for prompt and answer together
        self._model = model
        self._url = base_url
        self._concurrency = concurrency
        self._requests = Requests(base_url, api_key, timeout, retries)
        self._refusals = Refusals(f"{self.name}@{base_url}", base_url, self._requests.has_key, concurrency)
        self._context = context
        self._models: dict[str, int | None] | None = None  # None: not asked yet
        self._further = dict(request or {})
        self._limit = LIMIT
        self._report: Counter[str] = Counter(requests=0)

    def count_tokens(self, text: str) -> int:
        """An estimate, since the server's tokenizer is not known; for prose too many, for long numbers too few."""
        return -(-len(text.encode()) // BYTES_PER_TOKEN)

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, as long as ``count_tokens`` allows."""
        return text.encode()[: n_tokens * BYTES_PER_TOKEN].decode(errors="ignore")

    def report(self) -> Mapping[str, int]:
        """Requests for answers, and retries by cause."""
        retries = {f"retries_{reason.replace(' ', '_')}": n for reason, n in self._requests.retried.items()}
        return {**self._report, **retries}

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> Generator[tuple[int, Generation | NoGeneration], None, None]:
        """Yields (position, answer) as soon as each is there. Closing the iterator ends all requests under way.

        Raises:
            UserError: the server is not there, refuses the key, does not know the model, or answers nothing any more.
        """
        if not prompts:
            return
        from anyio.from_thread import start_blocking_portal

        answers: SimpleQueue[tuple[int, Generation | NoGeneration] | None] = SimpleQueue()
        # A thread of its own, because the caller's may run an event loop already, as notebooks do.
        with start_blocking_portal() as portal:
            run = portal.start_task_soon(self._ask, prompts, max_new_tokens, answers.put)
            run.add_done_callback(lambda _: answers.put(None))
            while (answer := answers.get()) is not None:
                yield answer
            run.result()

    async def _ask(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        put: Callable[[tuple[int, Generation | NoGeneration]], None],
    ) -> None:
        from anyio import create_task_group

        n_workers = min(self._concurrency, len(prompts))
        tasks = enumerate(prompts)  # shared by the workers
        refusals: list[UserError] = []
        async with self._requests.client() as client:
            await self._meet(client)
            async with create_task_group() as group:

                async def work() -> None:
                    try:
                        for position, prompt in tasks:
                            put((position, await self._answer(client, prompt, max_new_tokens, n_workers)))
                    except UserError as refusal:
                        refusals.append(refusal)
                        group.cancel_scope.cancel()

                for _ in range(n_workers):
                    group.start_soon(work)
        if refusals:
            raise refusals[0]

    async def _meet(self, client: AsyncOpenAI) -> None:
        """First contact: is somebody there, which models are there, and how much does ours take?"""
        if self._models is not None:
            return
        timeout = min(self._requests.timeout, LIST_TIMEOUT)
        models = await self._requests.persist(
            client.models.with_raw_response.list,
            read_models,
            timeout,
            # `transformers serve` never lists models where its cache has none; that is not worth waiting for.
            again=lambda fault: fault.passing() and fault.status != 500,
        )
        if isinstance(models, Fault):
            self._refusals.first_contact(models)
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
    ) -> Generation | NoGeneration:
        start = time.perf_counter()
        limit, reply = self._limit, await self._complete(client, prompt, max_new_tokens)
        if isinstance(reply, Fault) and reply.status == 400 and limit == LIMIT and NEW_LIMIT in reply.detail:
            self._limit = NEW_LIMIT
            reply = await self._complete(client, prompt, max_new_tokens)
        if isinstance(reply, Fault):
            self._refusals.unanswered(reply, self._model, self._models or ())
            return NoGeneration(reply.reason)
        self._refusals.answered()
        return Generation(
            reply.text,
            self.count_tokens(prompt) if reply.prompt_tokens is None else reply.prompt_tokens,
            self.count_tokens(reply.text) if reply.new_tokens is None else reply.new_tokens,
            reply.finished,
            (time.perf_counter() - start) / n_workers,
        )

    async def _complete(self, client: AsyncOpenAI, prompt: str, max_new_tokens: int) -> Reply | Fault:
        # Neither `n` nor `seed`: some servers refuse what they do not know, and greedy decoding needs neither.
        request = {
            "model": self._model,
            "messages": [{"role": "user", "content": without_markers(prompt)}],
            "temperature": 0,
            self._limit: max_new_tokens,
            "extra_body": self._further,
        }

        def send() -> Awaitable[Any]:
            self._report["requests"] += 1
            create: Any = client.chat.completions.with_raw_response.create
            return create(**request)

        return await self._requests.persist(send, read_reply)
