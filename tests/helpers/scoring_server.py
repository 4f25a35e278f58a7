"""A server on the loopback that answers with log-probabilities, of chat completions and of plain ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from faulty_server import FaultyHandler, FaultyServer, serving

Top = list[tuple[str, float | None]]


def by_digits(text: str) -> Top:
    """P(yes) grows with the digits of a prompt's candidate; both answers are among the most likely tokens."""
    digits = re.findall(r"\d+", text.rpartition("Candidate")[2] or text)
    yes = 0.9 / (1 + math.exp(2 - int(digits[-1]) / 3)) if digits else 0.45
    return [("yes", math.log(yes)), ("no", math.log(0.9 - yes)), ("The", math.log(0.05)), ("It", math.log(0.01))]


class ScoringHandler(FaultyHandler):
    """Lists what `top` returns for a prompt's text, the likeliest first; `most` is the largest number that is taken."""

    top: Callable[[str], Top] = staticmethod(by_digits)
    most = 1000

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = self.path == "/v1/chat/completions"
        assert chat or self.path == "/v1/completions"
        text = request["messages"][0]["content"] if chat else request["prompt"]
        with self.server.lock:
            self.server.attempts[text] += 1
            self.server.bodies.append({"path": self.path, **request})
            self.server.keys.add(self.headers["Authorization"])
        self.scored(text, request, chat)

    def scored(self, text: str, request: dict[str, Any], chat: bool) -> None:
        n = request["top_logprobs" if chat else "logprobs"]
        if n > self.most:
            message = f"Requested sample logprobs of {n}, which is greater than max allowed: {self.most}"
            self.reply(400, {"error": {"message": message}})
            return
        top = sorted(self.top(text), key=lambda one: -(one[1] or 0.0))[:n]
        self.reply(200, self.body(top, chat))

    def body(self, top: Top, chat: bool) -> dict[str, Any]:
        listed = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in top]
        said = {"token": top[0][0], "logprob": top[0][1], "top_logprobs": listed} if top else {}
        logprobs = {"content": [said]} if chat else {"top_logprobs": [dict(top)]}
        choice = {"index": 0, "finish_reason": "length", "logprobs": logprobs if top else None}
        text = top[0][0] if top else "yes"
        choice |= {"message": {"content": text}} if chat else {"text": text}
        return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}


@contextmanager
def scoring(handler: type[ScoringHandler] = ScoringHandler, **changes: Any) -> Iterator[FaultyServer]:
    """A server until the context ends; ``changes`` replace attributes and methods of the handler."""
    functions = {name: staticmethod(value) if name == "top" else value for name, value in changes.items()}
    with serving(type("Handler", (handler,), functions)) as server:
        yield server
