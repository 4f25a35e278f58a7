"""Connections that send no whole request, or read no answer, are closed; those whose question is in work are not."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

for name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(name)

RANK = {"user": "u3", "candidates": ["i1", "i2"]}
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"G", b"POST /rank HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_connection_without_a_whole_header_is_closed(serve, sent):
    with serve(body_seconds=0.2).raw(sent) as connection:
        assert connection.recv(100) == b""


def test_a_header_that_drips_in_is_given_up(serve):
    with serve(body_seconds=0.3).raw(b"GET /health HTTP/1.1\r\nX: ") as connection, pytest.raises(ConnectionError):
        for _ in range(1_000):
            connection.sendall(b"y")
            time.sleep(0.02)


def test_behind_an_answer_a_header_has_its_time_too(serve):
    with serve(body_seconds=0.5, keep_alive=2).raw(b"") as connection:
        for _ in range(2):  # the connection is kept
            connection.sendall(HEALTH)
            told = b""
            while not told.endswith(b"}"):
                told += connection.recv(10_000) or pytest.fail("closed")
            assert told.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.6)  # longer than the first header has, shorter than a connection is kept
        connection.sendall(HEALTH[:10])
        assert connection.recv(10_000) == b""


def test_questions_in_work_are_not_cut(serve, wait_until):
    server = serve(body_seconds=0.5)
    server.model.gate.clear()
    with ThreadPoolExecutor(1) as client:
        asked = client.submit(server.post, "/rank", RANK)
        wait_until(lambda: server.model.batches == [1])
        time.sleep(0.8)
        server.model.gate.set()
        assert asked.result()[0] == 200


def test_requests_sent_at_once_are_all_answered(serve):
    body = json.dumps(RANK).encode()
    head = b"POST /rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    rank = b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
    with serve(body_seconds=0.5, keep_alive=1).raw(rank + HEALTH + rank) as connection:
        told = b"".join(iter(lambda: connection.recv(10_000), b""))
    assert told.count(b"HTTP/1.1 200 ") == 3


class Wire(asyncio.Transport):
    """A connection without sockets: a client that sends as long as it is read, and reads as much as is said."""

    def __init__(self, most_unread: float = float("inf")):
        super().__init__()
        self.most_unread, self.written, self.is_open, self.reads = most_unread, bytearray(), True, True

    def pause_reading(self):
        self.reads = False

    def resume_reading(self):
        self.reads = True

    def is_closing(self):
        return not self.is_open

    def write(self, data):
        before = len(self.written)
        self.written += data
        if before <= self.most_unread < len(self.written):
            self.protocol.pause_writing()

    def abort(self):
        if self.is_open:
            self.is_open = False
            self.protocol.connection_lost(None)

    close = abort


async def quick(scope, receive, send):
    """Reads the body and answers, as every path does."""
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


PAD = b"Host: x\r\nX-Pad: " + b"x" * 2_000 + b"\r\n"
LONG = {
    "GET": b"GET /health HTTP/1.1\r\n" + PAD + b"\r\n",
    "POST": b"POST /rank HTTP/1.1\r\n" + PAD + b"Content-Length: 400\r\n\r\n" + b" " * 400,
    "chunked": b"POST /rank HTTP/1.1\r\n" + PAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "upgrade": b"GET /health HTTP/1.1\r\n" + PAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}


async def pipelining(request, n, wire, seconds=5.0, read_size=2**18, turns=10**6):
    """Sends so many requests without waiting for an answer.

    Returns:
        the connection's most unread bytes at a time, and how many requests were read.
    """
    import uvicorn

    from recbole_llmtrsr.serve.patience import impatient

    config = uvicorn.Config(quick, http=impatient(seconds), ws="none", log_config=None)
    config.load()
    protocol = wire.protocol = config.http_protocol_class(config, uvicorn.server.ServerState(), {})
    protocol.connection_made(wire)
    left, most = request * n, 0
    for _ in range(turns):
        if not wire.is_open or (not left and wire.written.count(b"HTTP/1.1 200") == n):
            break
        if wire.reads and left:
            protocol.data_received(left[:read_size])
            left = left[read_size:]
        most = max(most, len(protocol.conn.trailing_data[0]))
        await asyncio.sleep(0)
    read = n - len(left) // len(request)
    if wire.is_open:
        wire.abort()
    return most, read


@pytest.mark.parametrize("kind", LONG)
def test_what_a_client_sends_ahead_stays_with_it_and_is_answered(kind):
    n, wire = 4 * 2**18 // len(LONG[kind]), Wire()
    most, read = asyncio.run(pipelining(LONG[kind], n, wire))
    assert wire.written.count(b"HTTP/1.1 200 ") == read == n
    assert most <= 2**16 + 2**18  # a read, behind what lets one begin


def test_requests_are_read_no_faster_than_they_are_answered(monkeypatch):
    monkeypatch.setitem(globals(), "quick", never)
    most, read = asyncio.run(pipelining(LONG["GET"], 1_000, Wire(), turns=200))
    assert 0 < most <= 2**16 + 2**18
    assert read * len(LONG["GET"]) <= 2**16 + 2**18


async def never(scope, receive, send):
    """Waits for the client to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass


def test_a_client_that_reads_no_answer_is_given_up():
    async def asked():
        wire, start = Wire(most_unread=10_000), time.monotonic()
        await pipelining(HEALTH, 500, wire, seconds=0.1)
        assert len(wire.written) < 11_000
        assert not wire.is_open
        assert 0.05 < time.monotonic() - start < 5

    asyncio.run(asked())


def test_a_slow_reader_is_not_given_up():
    async def asked():
        wire = Wire(most_unread=10_000)
        sending = asyncio.ensure_future(pipelining(HEALTH, 1_000, wire, seconds=0.2))
        for _ in range(4):
            await asyncio.sleep(0.1)
            assert wire.is_open
            del wire.written[:]
            wire.protocol.resume_writing()
        sending.cancel()

    asyncio.run(asked())


def test_others_are_answered_while_one_sends_ahead_and_reads_nothing(serve, wait_until):
    server = serve(token="a-secret-that-nobody-reads", body_seconds=0.5)
    large = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a-secret-that-nobody-reads\r\n\r\n"
    with server.raw(large) as connection:
        connection.setblocking(False)

        def is_closed():
            try:
                connection.send(large * 500)
            except BlockingIOError:
                pass
            except OSError:
                return True
            assert server.post("/rank", RANK)[0] == 200
            return False

        wait_until(is_closed)
    assert server.ask("GET", "/health", Authorization="")[0] == 200
