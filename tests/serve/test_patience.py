"""Connections that send no whole request are closed; those whose question is in work are not."""

from __future__ import annotations

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
