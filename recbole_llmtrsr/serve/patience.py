"""Time-outs for connections that send no request, and back-pressure for those that send ahead or read no answer."""

from __future__ import annotations

import asyncio

from h11 import Connection
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_UNREAD = 2**16  # bytes behind a request in work; more is left to the client


class _Backpressure(FlowControl):
    """Resumes reading once the requests that were read are answered.

    Uvicorn resumes whenever a request waits for its body or for the client to leave, and then reads up to 256 KiB, for
    a request of 36 bytes.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if len(self._connection.trailing_data[0]) <= MOST_UNREAD:
            super().resume_reading()


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's protocol with time limits for a client's header and for reading an answer.

    Uvicorn itself times idle connections only after an answer. Requests that a client sends without reading the answers
    stay in its own buffers. The protocol is the one on h11 even where httptools is installed, which makes an object of
    each of them.

    Args:
        seconds: for the whole header of the first request; for that of a later one, after the time that a connection
            is kept alive; and for a client to read what was written, beyond what the sockets hold.
    """

    class Impatient(H11Protocol):  # type: ignore[misc]
        header_timer: asyncio.TimerHandle | None = None
        answer_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.flow = _Backpressure(transport, self.conn)
            self.expect_header(seconds)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.expect_header(self.timeout_keep_alive + seconds)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.answer_timer = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self.expect_reader()

        def connection_lost(self, exc: Exception | None) -> None:
            self.expect_header(None)
            self.expect_reader()
            super().connection_lost(exc)

        def expect_header(self, within: float | None) -> None:
            if self.header_timer is not None:
                self.header_timer.cancel()
            self.header_timer = None if within is None else self.loop.call_later(within, self.give_up)

        def expect_reader(self) -> None:
            if self.answer_timer is not None:
                self.answer_timer.cancel()
            self.answer_timer = None

        def give_up(self) -> None:
            if self.cycle is None or self.cycle.response_complete:  # no request is under way
                self.transport.abort()  # close() would wait for a client that reads no answer

    return Impatient
