"""A server of chat completions on the loopback that fails as each prompt says."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FaultyServer(ThreadingHTTPServer):
    """Answers the prompt '<fault>*<times>|<text>' with a fault, so many times, and then with '<text>!'."""

    daemon_threads = True
    request_queue_size = 64  # more than the clients open at once: a refused connection would be another fault

    def __init__(self, handler: type[FaultyHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.models: Any = [{"id": "tiny", "max_model_len": 5000}]
        self.models_status = 200
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.attempts: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.times: list[float] = []
        self.under_way = self.most_under_way = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up here, on purpose."""


class FaultyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reply(self, status: int, body: Any, wait: str = "", announced: int | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if announced is None else announced))
        if wait:
            self.send_header("Retry-After", wait)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        self.reply(self.server.models_status, {"data": self.server.models})

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = request["messages"][0]["content"]
        with self.server.lock:
            self.server.attempts[prompt] += 1
            self.server.bodies.append(request)
            self.server.keys.add(self.headers["Authorization"])
            self.server.times.append(time.monotonic())
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
            attempt = self.server.attempts[prompt]
        try:
            self.answer(prompt, attempt, request)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def answer(self, prompt: str, attempt: int, request: dict[str, Any]) -> None:
        instruction, _, text = prompt.rpartition("|")
        fault, _, times = instruction.partition("*")
        if attempt <= int(times or 0):
            self.fail(fault)
            return
        if fault == "new" and "max_tokens" in request:
            message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            self.reply(400, {"error": {"message": message, "param": "max_tokens"}})
            return
        if fault == "slow":
            self.server.stopped.wait(float(text))
        content = None if fault == "silent" else f"{text}!"
        reply: dict[str, Any] = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
        if fault == "counted":
            reply["usage"] = {"prompt_tokens": 7, "completion_tokens": 3}
        if fault == "long":
            reply["choices"][0]["finish_reason"] = "length"
        with self.server.lock:  # before the last byte, after which the next request may come
            self.server.under_way -= 1
        try:
            self.reply(200, reply)
        finally:
            with self.server.lock:
                self.server.under_way += 1

    def fail(self, fault: str) -> None:
        getattr(self, f"fault_{fault}", self.status)(fault)

    def status(self, fault: str) -> None:
        code, _, wait = fault.partition("after")
        message = f"no, {self.headers['Authorization']}, because of {code}"
        self.reply(int(code), {"error": {"message": message}}, wait)

    def fault_garbage(self, fault: str) -> None:
        self.reply(200, "<html>try later</html>")

    def fault_nothing(self, fault: str) -> None:
        self.reply(200, "")

    def fault_shapeless(self, fault: str) -> None:
        self.reply(200, {"choices": []})

    def fault_half(self, fault: str) -> None:
        self.reply(200, '{"choices": [{"mess', announced=500)
        self.close_connection = True

    def fault_hangup(self, fault: str) -> None:
        self.close_connection = True

    def fault_never(self, fault: str) -> None:
        self.server.stopped.wait()

    def fault_deep(self, fault: str) -> None:
        self.reply(200, "[" * 200_000)

    def fault_charset(self, fault: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=undefined")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def fault_echo(self, fault: str) -> None:
        self.reply(200, {"choices": [], "headers": str(self.headers["Authorization"])})

    def fault_drip(self, fault: str) -> None:
        self.reply(200, "", announced=100000)
        for _ in range(100):
            self.wfile.write(b" ")
            if self.server.stopped.wait(0.05):
                break


@contextmanager
def serving(handler: type[FaultyHandler] = FaultyHandler) -> Iterator[FaultyServer]:
    """A server that runs in a thread until the context ends."""
    with FaultyServer(handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
