"""The whole engine over a server that fails in every way: each history ends with a summary or a counted fallback."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr.config.settings import SummarySettings
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.llm.generators import server_requests
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.writers.make_writer import make_writer

pytest.importorskip("openai", reason="needs the extra 'server'")

FAULTS = (
    "fine",
    "fine",
    "fine",
    "429",
    "500",
    "503",
    "garbage",
    "nothing",
    "half",
    "never",
    "400",
    "empty",
    "always 500",
)
ITEMS = [f"{letter}{n}" for letter in "abcdefgh" for n in range(4)]
CATALOGUE = ItemText.from_rows(["title"], {item: [item] for item in ITEMS}, labels=False)


class Server(ThreadingHTTPServer):
    """Decides by a hash of the prompt how it fails at the first attempt; some prompts never get an answer."""

    daemon_threads = True
    request_queue_size = 64  # more than the clients open at once: a refused connection would not be one of our faults

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.delays = random.Random(seed)
        self.stopped = threading.Event()
        self.attempts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients give up here, on purpose."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"data": [{"id": "tiny", "max_model_len": 5000}]}))

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = request["messages"][0]["content"]
        with self.server.lock:
            self.server.attempts[prompt] += 1
            first, delay = self.server.attempts[prompt] == 1, self.server.delays.uniform(0, 0.01)
        fault = fault_of(prompt)
        if fault == "never":
            self.server.stopped.wait()
        elif fault in ("400", "always 500"):
            self.reply(int(fault[-3:]), json.dumps({"error": {"message": "no"}}))
        elif first and fault in ("429", "500", "503"):
            self.reply(int(fault), "{}")
        elif first and fault == "garbage":
            self.reply(200, "<html>")
        elif first and fault == "nothing":
            self.reply(200, "")
        elif first and fault == "half":
            self.reply(200, '{"choices": [{"mess', announced=300)
        else:
            self.server.stopped.wait(delay)
            text = "" if fault == "empty" else text_of(prompt)
            self.reply(200, json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}))

    def reply(self, status: int, body: str, announced: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(announced or len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


def fault_of(prompt: str) -> str:
    return FAULTS[hashlib.sha256(prompt.encode()).digest()[0] % len(FAULTS)]


def text_of(prompt: str) -> str:
    return f"Summary {hashlib.sha256(prompt.encode()).hexdigest()[:12]}."


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def start(seed: int) -> Server:
        servers.append(Server(seed))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.stopped.set()
        server.shutdown()
        server.server_close()


def content(store: SummaryStore) -> list[tuple[bytes, str]]:
    return [(entry.key, entry.answer.text) for entry in store.records(store.keys())]


def test_every_history_ends_with_a_summary_or_a_counted_fallback_in_whatever_order_answers_come(
    serve: Any, summarize_histories: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_requests, "FIRST_DELAY", 0.001)
    wording = {"block": "{items}", "update": "{summary}\n{items}", "merge": "{summaries}", "retry": ""}
    histories = summarize_histories.prefixes(ITEMS, CATALOGUE)
    stores, runs = [], []
    for seed, concurrency in ((1, 16), (2, 7)):
        server = serve(seed)
        settings = SummarySettings(
            summarizer=f"openai:tiny@http://127.0.0.1:{server.server_port}/v1",
            block_size=2,
            summarize_remainder="yes",
            summarizer_max_new_tokens=20,
            summarizer_concurrency=concurrency,
            summarizer_timeout=2.0,
            summarizer_retries=1,
        )
        writer = make_writer(settings, CATALOGUE, templates_for("movies", wording), device="cpu", dtype=None)  # type: ignore[arg-type]
        with SummaryStore(tmp_path / f"{seed}.sqlite") as store:
            runs.append(summarize_histories(histories, CATALOGUE, writer, settings, store))
            stores.append(content(store))
        # Each prompt was asked once, and once more where that could help.
        again = {"429", "500", "503", "garbage", "nothing", "half", "never", "always 500"}
        assert server.attempts == {prompt: 1 + (fault_of(prompt) in again) for prompt in server.attempts}
        faults = Counter(map(fault_of, server.attempts))
        assert set(faults) == set(FAULTS)  # all of them happened
        report = runs[-1].report
        assert report["failures"] == {
            "timeout": faults["never"], "status 400": faults["400"], "status 500": faults["always 500"]
        }  # fmt: skip
        assert report["replaced"] == sum(report["failures"].values()) + faults["empty"]
        assert report["faults"] == {"empty": faults["empty"]}
        assert report["made"] + sum(report["failures"].values()) == sum(faults.values())
        assert report["calls"] == report["made"] + sum(report["failures"].values()) + report["equal"] + report["found"]

    assert runs[0].summaries == runs[1].summaries
    assert stores[0] == stores[1]
    assert len({key for key, _ in stores[0]}) == len(stores[0]) == runs[0].report["made"]
    assert [n for n, text in runs[0].summaries.items() if not text] == [0]  # the history without items
    answered = {text_of(prompt) for prompt in server.attempts} | {""}
    assert {text for _, text in stores[0]} <= answered
