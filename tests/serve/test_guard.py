"""Who may ask: programs on this machine, or whoever shows the token, but no page of another site."""

from __future__ import annotations

import json

import pytest

for name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(name)

TOKEN = "a-secret-that-nobody-reads"
RANK = {"user": "u3", "candidates": ["i1", "i2"]}
HOSTS = [("127.0.0.1:80", 200), ("localhost", 200), ("[::1]:9", 200), ("evil.example", 403), ("", 403)]
PROXIED = {
    "Forwarded": "for=192.0.2.43",
    "X-Forwarded-For": "192.0.2.43",
    "X-Forwarded-Proto": "https",
    "x-forwarded-host": "shop.example",
    "X-Real-IP": "192.0.2.43",
    "Via": "1.1 proxy",
}


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_on_the_loopback_foreign_names_are_refused(serve, host, status):
    server = serve(only_loopback=True)
    assert server.ask("POST", "/rank", RANK, Host=host)[0] == status


def test_what_a_proxy_forwarded_needs_a_token(serve):
    open_to_all, closed = serve(only_loopback=True), serve(token=TOKEN)
    for name, value in PROXIED.items():
        for method, path, body in (("POST", "/rank", RANK), ("GET", "/metrics", None), ("GET", "/health", None)):
            status, told, _ = open_to_all.ask(method, path, body, **{name: value})
            assert status == 403
            assert told["detail"] == (
                f"a proxy forwarded this request (header {name.lower()}), but this server requires no token: start"
                " it with a token in the environment variable that --token_variable names, or send requests directly"
            )
            assert closed.ask(method, path, body, **{name: value})[0] == 200
    assert open_to_all.post("/rank", RANK)[0] == 200
    assert open_to_all.model.batches == [1]


@pytest.mark.parametrize("token", [None, TOKEN])
def test_pages_of_other_sites_are_refused(serve, token):
    server = serve(token=token)
    for value, status in (("cross-site", 403), ("Cross-Site", 403), ("same-origin", 200), ("none", 200)):
        assert server.ask("POST", "/rank", RANK, **{"Sec-Fetch-Site": value})[0] == status
        assert server.ask("GET", "/health", **{"Sec-Fetch-Site": value})[0] == status
    assert server.ask("GET", "/health", **{"Sec-Fetch-Site": "cross-site"})[1] == {
        "detail": "Sec-Fetch-Site is cross-site: requests from pages of other sites are refused; send them from a"
        " program"
    }


TYPES = [
    (b"", "Content-Type is missing"),
    (b"Content-Type: \r\n", "Content-Type is missing"),
    (b"Content-Type: text/plain\r\n", "Content-Type is 'text/plain'"),
    (b"Content-Type: text/plain; application/json\r\n", "Content-Type is 'text/plain; application/json'"),
    (b"Content-Type: multipart/form-data\r\n", "Content-Type is 'multipart/form-data'"),
    (b"Content-Type: application/x-www-form-urlencoded\r\n", "Content-Type is 'application/x-www-form-urlencoded'"),
    (b"Content-Type: application/jsonx\r\n", "Content-Type is 'application/jsonx'"),
]


@pytest.mark.parametrize(("header", "fault"), TYPES)
def test_a_post_must_say_that_it_is_json(serve, header, fault):
    server = serve(only_loopback=True)
    body = json.dumps(RANK).encode()
    head = b"Host: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n" % len(body)
    for path in (b"/rank", b"/recommend", b"/explain"):
        with server.raw(b"POST %s HTTP/1.1\r\n%s%s\r\n%s" % (path, head, header, body)) as connection:
            told = b"".join(iter(lambda: connection.recv(10_000), b""))
        assert told.startswith(b"HTTP/1.1 415 ")
        detail = json.loads(told.partition(b"\r\n\r\n")[2])["detail"]
        assert detail == f"{fault}: send JSON with the header 'Content-Type: application/json'"
    assert server.model.batches == []


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_may_be_declared_in_any_case_and_with_parameters(serve, kind):
    assert serve().ask("POST", "/rank", RANK, **{"Content-Type": kind})[0] == 200
