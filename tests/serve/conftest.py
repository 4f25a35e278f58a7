"""A tiny run, and a real server around it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import toy

from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.recommend import Recommender

TINY = {**toy.TINY, "learning_rate": 0.02, "block_size": 2, "result_dir": "out"}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run was started."""
    home = tmp_path_factory.mktemp("home")
    items = [f"i{n}\t{('Red', 'Blue', 'Old')[n % 3]} {('kettle', 'lamp', 'desk')[n // 5]}" for n in range(toy.N_ITEMS)]
    toy.write_atomic(home / "data" / "toy", toy.toy_events(*[6] * 8), items)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        compare(["LLMTRSR"], "toy", config_dict=TINY)
    return home


@pytest.fixture(scope="session")
def recommender(home: Path) -> Recommender:
    """Of the run; its paths are given, as tests are elsewhere."""
    result = json.loads((home / "out" / "result.json").read_text())
    options = {"data_path": str(home / "data"), "summary_store": str(home / "saved" / "summaries.sqlite")}
    return Recommender.load(home / "out", options=options, checkpoint=home / result["checkpoint"])


class Gated:
    """A recommender that waits at a gate before it answers, and notes what it was asked."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recommender, name)

    def answer(self, queries: Any) -> Any:
        """Note the batch, wait, answer."""
        self.batches.append(len(queries))
        assert self.gate.wait(20)
        return self._recommender.answer(queries)


@dataclass
class Server:
    """A server on the loopback."""

    port: int
    model: Gated
    stop: Callable[[], None]
    has_ended: Callable[[], bool]
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or bytes) and headers of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, content, {**kind, **self.headers, **headers})
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        if answer.headers.get_content_type() == "application/json":
            told = json.loads(told)
        return answer.status, told, {name.lower(): value for name, value in answer.getheaders()}

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and content."""
        return self.ask("POST", path, body, **headers)[:2]

    def raw(self, content: bytes) -> socket.socket:
        """A connection over which some bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(content)
        return connection

    def counter(self, name: str) -> float:
        """A value of /metrics, 0 where it is not there."""
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


@pytest.fixture
def serve(recommender: Recommender) -> Iterator[Callable[..., Server]]:
    """Starts servers, which end with the test."""
    import uvicorn  # not where the extra is missing, whose tests are skipped then

    from recbole_llmtrsr.serve.app import Limits, make_app
    from recbole_llmtrsr.serve.patience import impatient

    running = []

    def start(token: str | None = None, only_loopback: bool = False, keep_alive: int = 5, **given: Any) -> Server:
        model = Gated(recommender)
        limits = Limits(**given)
        app = make_app(model, limits, token, only_loopback)  # type: ignore[arg-type]
        config = uvicorn.Config(
            app,
            port=0,
            http=impatient(limits.body_seconds),
            ws="none",
            log_level="info",
            timeout_keep_alive=keep_alive,
            timeout_graceful_shutdown=10,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread, model))
        until(lambda: server.started)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        port = server.servers[0].sockets[0].getsockname()[1]
        stop = lambda: setattr(server, "should_exit", True)  # noqa: E731
        return Server(port, model, stop, lambda: not thread.is_alive(), headers)

    yield start
    for server, thread, model in running:
        model.gate.set()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Waits until something holds."""
    return until


def until(holds: Callable[[], bool]) -> None:
    """Wait, but not for ever."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
