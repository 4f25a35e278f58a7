"""Middleware that checks a request before it is parsed (origin, token, size, time, type) and counts it."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_llmtrsr.runtime.network import is_loopback
from recbole_llmtrsr.serve.metrics import Metrics

LEFT = 499  # status in the metrics for a client that disconnected before its answer
TRUSTED = "recbole_llmtrsr.trusted"  # key of the scope: the client sent the token, or the server requires none
_OPEN = ("/health",)  # paths that require no token
_JSON = b"application/json"
_OF_PROXIES = (b"forwarded", b"via", b"x-real-ip")


class Guard:
    """Middleware that refuses requests or forwards them with their whole body.

    Args:
        app: the application.
        metrics: counts the requests.
        token: token that clients must send; None requires none.
        max_body: maximum size of a request's body in bytes.
        body_seconds: time limit for a client to send the body.
        only_loopback: refuse requests that name another host, as pages of other sites do by DNS rebinding, and requests
            that a proxy forwarded.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, token: str | None, max_body: int, body_seconds: float, only_loopback: bool
    ) -> None:
        self._app, self._metrics = app, metrics
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._max_body, self._body_seconds, self._only_loopback = max_body, body_seconds, only_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or forward it to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), LEFT

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._guarded(scope, receive, counting)
        except BaseException:
            status = 500 if status == LEFT else status
            raise
        finally:
            self._metrics.answered(scope["path"], status, time.perf_counter() - start)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        foreign = refused_origin(headers, self._only_loopback)
        if foreign is not None:
            await _refusal(403, foreign)(scope, receive, send)
            return
        given = headers.get(b"authorization", b"")
        scope[TRUSTED] = self._authorization is None or hmac.compare_digest(given, self._authorization)
        if not scope[TRUSTED] and scope["path"] not in _OPEN:
            refused = "the server requires a token: send the header 'Authorization: Bearer <token>'"
            await _refusal(401, refused, **{"www-authenticate": "Bearer"})(scope, receive, send)
            return
        too_large = f"the body exceeds the limit of {self._max_body:,} bytes: send fewer or shorter items"
        try:
            body = await asyncio.wait_for(self._body(receive), self._body_seconds)
        except asyncio.TimeoutError:  # its name before Python 3.11
            late = f"the body did not arrive within {self._body_seconds:g} seconds: send it at once, or a smaller one"
            await _refusal(408, late)(scope, receive, send)
            return
        if body is None:
            return  # the client disconnected
        if len(body) > self._max_body:
            await _refusal(413, too_large)(scope, receive, send)
            return
        kind = headers.get(b"content-type", b"")
        if scope["method"] == "POST" and kind.partition(b";")[0].strip().lower() != _JSON:
            told = f"Content-Type is '{kind.decode('latin-1')[:60]}'" if kind else "Content-Type is missing"
            wanted = f"{told}: send JSON with the header 'Content-Type: application/json'"
            await _refusal(415, wanted)(scope, receive, send)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the body, or its beginning if that exceeds the limit already; None if the client disconnected.

        The rest of a large body is read and discarded, since clients read no answer before they have sent everything.
        """
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            if len(body) <= self._max_body:
                body += message.get("body", b"")
            if not message.get("more_body", False):
                return bytes(body)


def refused_origin(headers: Mapping[bytes, bytes], only_loopback: bool) -> str | None:
    """Return why a request is refused for its origin, a proxy or a page of another site; None if it is accepted.

    Args:
        headers: headers of the request, with names in lower case.
        only_loopback: whether the server requires no token, so that it would answer everyone who can send a request.

    >>> refused_origin({b"host": b"127.0.0.1:8000"}, only_loopback=True)
    >>> refused_origin({b"host": b"example.org"}, only_loopback=True)
    'this server only accepts loopback host names, such as 127.0.0.1'
    """
    if headers.get(b"sec-fetch-site", b"").strip().lower() == b"cross-site":
        return "Sec-Fetch-Site is cross-site: requests from pages of other sites are refused; send them from a program"
    if not only_loopback:
        return None
    host = headers.get(b"host", b"").decode("latin-1")
    if not is_loopback(host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]):
        return "this server only accepts loopback host names, such as 127.0.0.1"
    for name in headers:
        if name in _OF_PROXIES or name.startswith(b"x-forwarded-"):
            return (
                f"a proxy forwarded this request (header {name.decode('latin-1')[:60]}), but this server requires no"
                " token: start it with a token in the environment variable that --token_variable names, or send"
                " requests directly"
            )
    return None


def _refusal(status: int, detail: str, **headers: str) -> JSONResponse:
    """Reply without reading further; the connection is closed, since the body may not have arrived."""
    return JSONResponse({"detail": detail}, status, {"connection": "close", **headers})
