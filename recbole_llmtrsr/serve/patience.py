"""Time-outs for connections that send no request, and back-pressure for those that pipeline or read no answers."""

from __future__ import annotations

import asyncio

from h11 import Connection
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_UNREAD = 2**16  # bytes to buffer after the current request; the client must hold the rest


class _Backpressure(FlowControl):
    """Resumes reading only after the buffered requests are answered.

    Uvicorn resumes whenever a request waits for its body or for a disconnect, and then reads up to 256 KiB even for a
    request of 36 bytes.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if len(self._connection.trailing_data[0]) <= MOST_UNREAD:
            super().resume_reading()


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's protocol with time limits for a client's header and for reading an answer.

    Uvicorn limits the time of idle connections only after an answer, and buffers requests of clients that do not read
    their answers. The protocol uses h11 even if httptools is installed, because httptools creates an object for each of
    these requests.

    Args:
        seconds: time limit for the whole header of the first request, for the header of a later request after the
            keep-alive time, and for a client to read an answer that the socket buffers cannot hold.
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
                self.transport.abort()  # close() would wait for clients that read no answer

    return Impatient
