"""One request to a server, repeated until there is a reply or no hope for one."""

from __future__ import annotations

import logging
import os
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.server_replies import Fault, read_error, read_wait
from recbole_llmtrsr.runtime.network import is_loopback, variables

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

FIRST_DELAY = 0.5  # seconds before the second attempt; doubles with each further one
LONGEST_DELAY = 60.0  # seconds, also where a server asks for more


class Requests:
    """Requests to one server, with time limits and retries. It alone knows the key.

    Args:
        base_url: what comes before '/chat/completions'.
        api_key: sent to the server, and shown nowhere.
        timeout: most seconds of one attempt, from connecting to the last byte.
        retries: further attempts per request.

    Attributes:
        retried: number of repeated requests by the reason why.

    Raises:
        UserError: the package `openai` is missing, or the key cannot be sent.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout: float, retries: int) -> None:
        if find_spec("openai") is None:
            raise UserError(f'asking {base_url} needs the package openai: pip install "recbole_llmtrsr[server]"')
        self._key = (api_key or "").strip()
        if any(not "!" <= character <= "~" for character in self._key):
            raise UserError(
                f"the key for {base_url} has spaces or characters other than ASCII, which cannot be sent: correct the"
                " environment variable that summarizer_api_key_variable names"
            )
        self.has_key = bool(self._key)
        self.timeout = timeout
        self.retried: Counter[str] = Counter()
        self._url = base_url
        self._retries = retries

    def client(self) -> AsyncOpenAI:
        """A client, to be closed by the caller. It asks a server on this machine directly, whatever proxies there are.

        Raises:
            UserError: the environment names a proxy or certificates that cannot be used.
        """
        import openai

        for name in ("httpx", "httpx2"):  # each request would be a line in a log that shows all that is not excluded
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)
        # Without a key, a word: openai would look into OPENAI_API_KEY, which may be meant for somebody else; and so may
        # the organization and the project that it takes from the environment.
        mine = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        try:
            return openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self._url,
                max_retries=0,
                timeout=self.timeout,
                default_headers=mine,  # type: ignore[arg-type]
                http_client=self._direct() if is_loopback(urlsplit(self._url).hostname or "") else None,
            )
        except Exception as error:  # of several libraries: a scheme, a port, a package or a file of certificates
            raise UserError(
                f"{self._url} cannot be asked ({type(error).__name__}: {error}) because of the environment:"
                f" {variables(error)}: correct it or unset it"
            ) from error

    def _direct(self) -> Any:
        """A client of HTTP that reads of the environment nothing but certificates, for https."""
        import openai

        if not self._url.startswith("https"):
            return openai.DefaultAsyncHttpxClient(trust_env=False)
        own = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"), capath=os.environ.get("SSL_CERT_DIR"))
        return openai.DefaultAsyncHttpxClient(trust_env=False, verify=own)

    async def persist(
        self,
        send: Callable[[], Awaitable[Any]],
        read: Callable[[str], T | Fault],
        timeout: float | None = None,
        again: Callable[[Fault], bool] = Fault.passing,
    ) -> T | Fault:
        """Make a request until there is a reply, a fault that stays, or no attempt left.

        Args:
            send: makes it, with a method under openai's ``with_raw_response``.
            read: reads the body of a success.
            timeout: most seconds of one attempt, where fewer than usual.
            again: whether a fault is worth another attempt.
        """
        from anyio import sleep

        for attempt in range(self._retries + 1):
            body = await self._attempt(send, timeout or self.timeout)
            reply = body if isinstance(body, Fault) else read(body)
            if not isinstance(reply, Fault) or not again(reply) or attempt == self._retries:
                break
            self.retried[reply.reason] += 1
            delay = max(FIRST_DELAY * 2.0 ** min(attempt, 30), reply.wait or 0.0)
            # At random, so that requests that failed together do not come back together.
            await sleep(min(delay, LONGEST_DELAY) * random.uniform(1.0, 1.5))
        return reply

    async def _attempt(self, send: Callable[[], Awaitable[Any]], timeout: float) -> str | Fault:
        """The body of a reply. A server's words, of success too, may repeat the key, which therefore ends here."""
        import openai
        from anyio import fail_after

        try:
            with fail_after(timeout):  # openai's own limit is for each read, which a server that drips never exceeds
                # Decoded here: a server may name an encoding that there is not, or one that is not its own.
                return self._clean((await send()).http_response.content.decode("utf-8", "replace"))
        except (TimeoutError, openai.APITimeoutError):
            return Fault("timeout", f"no answer within {timeout:g} s")
        except openai.APIConnectionError as error:
            return Fault("connection", self._clean(str(error.__cause__ or error)))
        except openai.APIStatusError as error:
            status, said = error.status_code, self._clean(read_error(error.response.content.decode("utf-8", "replace")))
            return Fault(f"status {status}", said, status, read_wait(error.response.headers))

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "<key>") if self._key else text
