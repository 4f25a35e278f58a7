"""A real server: its answers are the recommender's, and what it cannot or may not answer is refused."""

from __future__ import annotations

import json
import logging
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

for name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(name)

TOKEN = "a-secret-that-nobody-reads"
RANK = {"user": "u3", "candidates": ["i1", "i2", {"title": "Golden lamp"}]}


def as_json(value):
    return json.loads(json.dumps(asdict(value)))


def scores(answer):
    return {one["position"]: one["score"] for one in answer["items"]}


def test_answers_are_those_of_the_recommender(serve, recommender):
    server = serve()
    status, answer = server.post("/rank", RANK)
    assert (status, answer) == (200, as_json(recommender.rank("u3", RANK["candidates"])))
    history = ["i1", {"title": "Golden lamp", "item_id": "new"}, "i2"]
    status, answer = server.post("/rank", {"history": history, "candidates": ["i5"]})
    assert (status, answer) == (200, as_json(recommender.rank(history, ["i5"])))
    status, answer = server.post("/recommend", {"history": history, "k": 3, "with_history": True})
    assert (status, answer) == (200, as_json(recommender.recommend(history, 3, with_history=True)))
    whole = recommender.history("u3", whole=True)
    status, answer = server.post("/recommend", {"user": "u3", "whole": True})
    assert (status, answer) == (200, as_json(recommender.recommend(whole, 10)))
    status, answer = server.post("/explain", {**RANK, "shown": 2})
    assert status == 200
    told = recommender.explain("u3", RANK["candidates"], shown=2)
    stored = [replace(call, source="stored") for call in told.calls]
    assert answer == as_json(replace(told, options=(), calls=tuple(stored)))  # without the server's own paths
    assert answer["shown"] == {"token": "by hand #3", "line": "title: Golden lamp"}
    fields = "number kind items inputs text source prompt_tokens new_tokens finish faults"
    assert [*answer["calls"][0]] == fields.split()  # what clients read


def test_health_tells_what_is_served(serve):
    told = {"status": "ok", "model": "LLMTRSR", "dataset": "toy", "items": 13, "text_columns": ["title"], "waiting": 0}
    assert serve().ask("GET", "/health")[:2] == (200, told)


def test_what_waits_is_answered_together_and_as_if_alone(serve, recommender, wait_until):
    server = serve(max_prompts=40)
    questions = [{"user": f"u{n % 8}", "candidates": [f"i{m}" for m in range(1 + n % 5)]} for n in range(32)]
    server.model.gate.clear()
    with ThreadPoolExecutor(32) as clients:
        asked = [clients.submit(server.post, "/rank", question) for question in questions]
        wait_until(lambda: sum(server.model.batches) + server.ask("GET", "/health")[1]["waiting"] == 32)
        server.model.gate.set()
        for question, one in zip(questions, asked):
            status, answer = one.result()
            assert status == 200
            alone = as_json(recommender.rank(question["user"], question["candidates"]))
            assert scores(answer) == pytest.approx(scores(alone), abs=1e-5)
    assert sum(server.model.batches) == 32
    assert 3 <= len(server.model.batches) <= 8  # 93 prompts, at most 40 together, and the first ones alone
    assert server.counter("recommender_batch_questions_sum") == 32
    assert server.counter("recommender_prompts_total") == 93


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"rank"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 40_000,
    b"9" * 6_000,
    b"-" + b"1" * 200_000,
    b'{"k": ' + b"9" * 6_000 + b"}",
    b'{"user": "\xff"}',
    b'{"user": "u3", "candidates": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"user": "\\ud800", "candidates": ["i1"]}',
    b'{"user": "u3", "candidates": ["\\ud800"]}',
    b'{"user": "u3", "candidates": [{"\\ud800": "x"}]}',
    b'{"user": "u3", "candidates": [{"title": "\\ud800"}]}',
    b'{"user": "u3", "candidates": [NaN]}',
    b'{"user": "u3", "candidates": [1e999]}',
    b'{"user": "u3", "candidates": [' + b"9" * 5000 + b"]}",
    b'{"user": "u3", "candidates": "i1"}',
    b'{"user": "u3", "candidates": {"title": "x"}}',
    b'{"user": "u3", "candidates": []}',
    b'{"user": "u3", "candidates": [{}]}',
    b'{"user": "u3", "candidates": [{"title": 3}]}',
    b'{"user": "u3", "candidates": [{"titel": "x"}]}',
    b'{"user": "u3", "candidates": [""]}',
    b'{"user": "u3", "candidates": ["i1", "i1"]}',
    b'{"user": "u3", "candidates": ["i99"]}',
    b'{"user": "nobody", "candidates": ["i1"]}',
    b'{"user": 3, "candidates": ["i1"]}',
    b'{"user": null, "candidates": ["i1"]}',
    b'{"candidates": ["i1"]}',
    b'{"history": [], "candidates": ["i1"]}',
    b'{"history": ["i1"], "user": "u3", "candidates": ["i1"]}',
    b'{"history": ["i1"], "whole": true, "candidates": ["i1"]}',
    b'{"user": "u3", "candidates": ["i1"], "k": 3}',
]


def test_what_is_malformed_is_told_and_breaks_nothing(serve):
    server = serve()
    for body in MALFORMED:
        for path in ("/rank", "/recommend", "/explain"):
            status, told = server.post(path, body)
            assert status == 422, body[:60]
            assert set(told) == {"detail"}
            assert 0 < len(told["detail"]) < 4_000
        assert server.post("/rank", RANK)[0] == 200


@pytest.mark.parametrize("more", [{"k": 0}, {"k": 1001}, {"k": "3"}, {"k": True}, {"with_history": 1}, {"shown": 1}])
def test_a_malformed_recommendation_is_told(serve, more):
    assert serve().post("/recommend", {"user": "u3", **more})[0] == 422


def test_the_detail_is_the_recommenders_remedy(serve):
    status, told = serve().post("/rank", {"user": "u3", "candidates": ["i99", "i1", "i1"]})
    assert status == 422
    assert "'i99' is not among the 13 items of the run's catalogue (did you mean 'i9'?): give texts" in told["detail"]
    assert "candidates name 'i1' more than once: give each id once" in told["detail"]
    status, told = serve().post("/explain", {**RANK, "shown": 3})
    assert (status, told) == (422, {"detail": "shown: 3 must be a position among the 3 candidates, from 0 to 2"})


def test_other_paths_methods_and_types_are_refused(serve):
    server = serve()
    assert server.ask("GET", "/rank")[0] == 405
    assert server.ask("GET", "/docs")[0] == 404
    assert server.ask("POST", "/../rank", RANK)[0] == 404
    assert server.ask("POST", "/rank", RANK, **{"Content-Type": "text/plain"})[0] == 415
    server.raw(b"no HTTP at all\r\n\r\n").close()
    assert server.counter('recommender_requests_total{path="other",status="404"}') == 2


def test_what_is_too_large_is_refused(serve):
    server = serve(max_body=10_000)
    told = {"detail": "the body exceeds the limit of 10,000 bytes: send fewer or shorter items"}
    assert server.post("/rank", b" " * 10_001) == (413, told)
    chunks = b"".join(b"%x\r\n%s\r\n" % (5_000, b" " * 5_000) for _ in range(3)) + b"0\r\n\r\n"
    chunked = server.raw(b"POST /rank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert chunked.recv(100).startswith(b"HTTP/1.1 413 ")
    chunked.close()
    large = serve()
    assert large.post("/rank", b" " * (2**18 + 1))[0] == 413
    for body in (
        {"user": "u3", "candidates": [0] * 80_000},
        {"user": "u3", "candidates": [f"i{n}" for n in range(1_001)]},
        {"history": ["i1"] * 5_001, "candidates": ["i1"]},
        {"user": "u3", "candidates": [{"title": "x" * 20_001}]},
        {"user": "u" * 501, "candidates": ["i1"]},
    ):
        status, told = large.post("/rank", body)
        assert status == 413
        assert "at most" in told["detail"]
    assert large.post("/rank", {"history": ["i1"] * 5_000, "candidates": [{"title": "x" * 20_000}]})[0] == 200


def test_of_many_faults_the_first_ones_are_told(serve):
    body = {"history": [{str(n): 0 for n in range(20_000)}], "candidates": ["i1"]}
    status, told = serve().post("/rank", body)
    assert status == 422
    assert told["detail"].count("\n") == 10
    assert told["detail"].endswith("more faults")


def test_a_body_that_does_not_arrive_is_given_up(serve):
    server = serve(body_seconds=0.2)
    slow = server.raw(b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    slow.close()


def test_a_full_line_is_told_with_a_time_to_come_again(serve, wait_until):
    server = serve(max_waiting=2)
    server.model.gate.clear()
    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(server.post, "/rank", RANK)]
        wait_until(lambda: server.model.batches == [1])
        asked += [clients.submit(server.post, "/rank", RANK) for _ in range(2)]
        wait_until(lambda: server.ask("GET", "/health")[1]["waiting"] == 2)
        status, told, headers = server.ask("POST", "/rank", RANK)
        assert (status, headers["retry-after"]) == (503, "1")
        assert told == {"detail": "2 requests are already waiting: try again later"}
        server.model.gate.set()
        assert [one.result()[0] for one in asked] == [200, 200, 200]
    assert server.post("/rank", RANK)[0] == 200


def test_the_work_of_clients_that_left_is_dropped(serve, wait_until):
    server = serve(max_waiting=4)
    server.model.gate.clear()
    body = json.dumps(RANK).encode()
    request = b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request += b"Content-Length: %d\r\n\r\n" % len(body)
    with ThreadPoolExecutor(1) as client:
        first = client.submit(server.post, "/rank", RANK)
        wait_until(lambda: server.model.batches == [1])
        leaving = [server.raw(request + body) for _ in range(4)]
        wait_until(lambda: server.ask("GET", "/health")[1]["waiting"] == 4)
        for number, connection in enumerate(leaving):
            if number % 2:  # some with a reset
                connection.setsockopt(1, 13, struct.pack("ii", 1, 0))
            connection.close()
        wait_until(lambda: server.ask("GET", "/health")[1]["waiting"] == 0)
        server.model.gate.set()
        assert first.result()[0] == 200
    assert server.post("/rank", RANK)[0] == 200
    assert server.model.batches == [1, 1]
    assert server.counter("recommender_clients_left_total") == 4
    assert server.counter('recommender_requests_total{path="/rank",status="499"}') == 4


def test_a_failure_is_told_without_its_reason_and_ends_nothing(serve, recommender, monkeypatch, caplog):
    server = serve()

    def broken(queries):
        raise RuntimeError("the disk of /secret/path is full")

    monkeypatch.setattr(server.model, "answer", broken)
    told = {"detail": "the request failed on the server: see the server's log for the reason"}
    assert server.post("/rank", RANK) == (500, told)
    assert "the disk of /secret/path is full" in caplog.text
    monkeypatch.undo()
    assert server.post("/rank", RANK)[0] == 200


def test_without_the_token_nothing_is_answered_but_health(serve, caplog):
    server = serve(token=TOKEN)
    with caplog.at_level(logging.DEBUG):
        assert server.post("/rank", RANK)[0] == 200
        for wrong in ("", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"bearer {TOKEN}"):
            status, told, headers = server.ask("POST", "/rank", RANK, Authorization=wrong)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in json.dumps(told)
        for path in ("/metrics", "/openapi.json", "/nowhere"):
            assert server.ask("GET", path, Authorization="")[0] == 401
        for wrong in ("", f"Bearer {TOKEN}x"):
            assert server.ask("GET", "/health", Authorization=wrong)[:2] == (200, {"status": "ok"})
        assert server.ask("GET", "/health")[1]["dataset"] == "toy"
    assert TOKEN not in caplog.text
    assert TOKEN.encode() not in server.ask("GET", "/metrics")[1]
    assert server.ask("GET", "/openapi.json")[1]["components"]["securitySchemes"]


def test_the_interface_is_described_with_its_bounds(serve):
    described = serve().ask("GET", "/openapi.json")[1]
    assert {"/rank", "/recommend", "/explain", "/health", "/metrics"} == set(described["paths"])
    question = described["components"]["schemas"]["RankQuestion"]["properties"]["candidates"]
    assert (question["minItems"], question["maxItems"]) == (1, 1000)
    assert described["components"]["schemas"]["RecommendQuestion"]["properties"]["k"]["maximum"] == 1000
    of_all = {"200", "403", "408", "413"}
    asked = of_all | {"401", "415", "422", "500", "503", "504"}
    for path, answers in {"/health": of_all | {"503"}, "/metrics": of_all | {"401"}}.items():
        assert set(described["paths"][path]["get"]["responses"]) == answers
    for path in ("/rank", "/recommend", "/explain"):
        assert set(described["paths"][path]["post"]["responses"]) == asked


def test_requests_under_way_are_answered_before_the_end(serve, wait_until):
    server = serve()
    server.model.gate.clear()
    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(server.post, "/rank", RANK)]
        wait_until(lambda: server.model.batches == [1])
        asked.append(clients.submit(server.post, "/rank", RANK))
        wait_until(lambda: server.ask("GET", "/health")[1]["waiting"] == 1)
        server.stop()
        time.sleep(0.3)
        with pytest.raises(OSError, match="refused"):
            server.post("/rank", RANK)
        server.model.gate.set()
        assert [one.result()[0] for one in asked] == [200, 200]


def test_a_question_has_an_end(serve, wait_until):
    server = serve(answer_seconds=1)
    server.model.gate.clear()
    told = {
        "detail": "no result within 1 seconds: send fewer or shorter items, or try again when fewer requests"
        " wait; the server's --answer_seconds sets this limit"
    }
    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(server.post, "/rank", RANK)]
        wait_until(lambda: server.model.batches == [1])
        asked += [clients.submit(server.post, "/rank", RANK) for _ in range(2)]
        assert [one.result() for one in asked] == [(504, told)] * 3
    assert server.ask("GET", "/health")[1]["waiting"] == 0
    server.model.gate.set()
    wait_until(lambda: server.post("/rank", RANK)[0] == 200)
    assert set(server.model.batches) == {1}  # those behind it were dropped
    assert server.counter('recommender_requests_total{path="/rank",status="504"}') >= 3
    assert server.counter("recommender_clients_left_total") == 0


def test_the_end_is_not_put_off_by_what_the_model_works_on(serve, wait_until, caplog):
    server = serve(answer_seconds=1, shutdown_seconds=0.1)
    server.model.gate.clear()
    assert server.post("/rank", RANK)[0] == 504
    server.stop()
    wait_until(server.has_ended)
    assert not server.model.gate.is_set()
    assert "the current batch did not finish within 0.1 seconds and is abandoned" in caplog.text
