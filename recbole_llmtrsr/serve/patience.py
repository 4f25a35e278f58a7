"""Connections that send no request are closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, which has a timer for idle connections behind an answer alone, with one before each request.

    Args:
        seconds: for the header of the first request, whole; of a later one, behind the time that a connection is kept.
    """

    class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.expect_header(seconds)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.expect_header(self.timeout_keep_alive + seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            self.expect_header(None)
            super().connection_lost(exc)

        def expect_header(self, within: float | None) -> None:
            if self.header_timer is not None:
                self.header_timer.cancel()
            self.header_timer = None if within is None else self.loop.call_later(within, self.give_up)

        def give_up(self) -> None:
            if self.cycle is None or self.cycle.response_complete:  # no request is under way
                self.transport.close()

    return Impatient
