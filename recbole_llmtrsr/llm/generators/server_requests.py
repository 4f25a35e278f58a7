"""Requests to a server, with retries."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GenerationFailure
from recbole_llmtrsr.llm.generators.server_replies import read_error, read_wait
from recbole_llmtrsr.runtime.network import is_loopback, variables

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

FIRST_DELAY = 0.5  # seconds before the second attempt; doubles with each further one
LONGEST_DELAY = 60.0  # seconds, even if a server requests more
PASSING = frozenset({408, 409, 425, 429})  # statuses below 500: time-out, conflict, too early, too many requests


class Requests:
    """Requests through openai's client, which holds the key.

    The client's retries neither repeat an invalid reply nor count by cause, and its timeout applies to each read, which
    a server that sends single bytes never exceeds; ``persist`` therefore replaces both.

    Args:
        base_url, api_key, timeout, retries: as of ``ServerClient``.
        key_option: the option that names the key's environment variable, for messages.

    Attributes:
        retried: number of retries by reason.
        has_key: whether a key is sent.

    Raises:
        UserError: the package `openai` is missing, or the key cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout: float,
        retries: int,
        key_option: str = "summarizer_api_key_variable",
    ) -> None:
        if find_spec("openai") is None:
            raise UserError(f'requests to {base_url} need the package openai: pip install "recbole_llmtrsr[server]"')
        self._key = (api_key or "").strip()
        if any(not "!" <= character <= "~" for character in self._key):
            raise UserError(
                f"the key for {base_url} has spaces or non-ASCII characters, which cannot be sent: correct the"
                f" environment variable that {key_option} names"
            )
        self.has_key = bool(self._key)
        self.retried: Counter[str] = Counter()
        self._url, self._timeout, self._retries = base_url, timeout, retries

    def client(self) -> AsyncOpenAI:
        """A client, to be closed by the caller. Requests to this machine ignore proxies.

        Raises:
            UserError: the environment sets a proxy or certificates that cannot be used.
        """
        import openai

        for name in ("httpx", "httpx2"):  # they log each request at level INFO
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)
        # Without a key, a placeholder: openai would send OPENAI_API_KEY, which may be meant for another server, as may
        # the organization and the project that it reads from the environment.
        headers = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        try:
            direct = None
            if is_loopback(urlsplit(self._url).hostname or ""):
                file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
                is_safe = self._url.startswith("https")
                context = ssl.create_default_context(cafile=file, capath=folder) if is_safe else True
                direct = openai.DefaultAsyncHttpxClient(trust_env=False, verify=context)
            return openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self._url,
                max_retries=0,
                timeout=self._timeout,
                default_headers=headers,  # type: ignore[arg-type]
                http_client=direct,
            )
        except Exception as error:  # from several libraries: a scheme, a port, a package or a file of certificates
            raise UserError(
                f"{self._url} cannot be reached ({type(error).__name__}: {error}) because of the environment:"
                f" {variables(error)}: correct it or unset it"
            ) from error

    async def persist(
        self,
        send: Callable[[], Awaitable[bytes]],
        read: Callable[[str], T | GenerationFailure],
        longest: float = float("inf"),
        lasting: int = 0,
    ) -> T | GenerationFailure:
        """Repeat a request until there is a reply, a permanent failure, or no attempt left.

        Args:
            send: makes the request, and returns the body of a success.
            read: parses the body.
            longest: maximum seconds of one attempt, if less than ``timeout``.
            lasting: a status to treat as permanent.
        """
        import openai

        timeout = min(longest, self._timeout)
        for attempt in range(self._retries + 1):
            wait, is_passing = 0.0, True
            try:
                # A reply, even of a success, may repeat the key.
                body = self._clean((await asyncio.wait_for(send(), timeout)).decode("utf-8", "replace"))
                reply = read(body)
            except (asyncio.TimeoutError, openai.APITimeoutError):
                reply = GenerationFailure("timeout", f"no answer within {timeout:g} s")
            except openai.APIConnectionError as error:
                reply = GenerationFailure("connection", self._clean(str(error.__cause__ or error)))
            except openai.APIStatusError as error:
                status, wait = error.status_code, read_wait(error.response.headers)
                reply = GenerationFailure(f"status {status}", self._clean(read_error(error.body)), status)
                is_passing = (status in PASSING or status >= 500) and status != lasting
            if not isinstance(reply, GenerationFailure) or not is_passing or attempt == self._retries:
                break
            self.retried[reply.reason] += 1
            # With jitter, so that requests that failed together are not repeated together.
            delay = min(max(FIRST_DELAY * 2.0 ** min(attempt, 30), wait), LONGEST_DELAY)
            await asyncio.sleep(delay * random.uniform(1.0, 1.5))
        return reply

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "<key>") if self._key else text
