"""What servers say: answers, lists of models, and the many ways of saying neither."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from recbole_llmtrsr.data.item_text import one_line

# Statuses below 500 that ask for another attempt: time-out, conflict, too early, too many requests.
PASSING = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Fault:
    """A request without a usable reply.

    Attributes:
        reason: a word or two, by which faults are counted.
        detail: what the server or the network said, without the key.
        status: of HTTP, where there was one that is not a success.
        wait: seconds after which the server wants to be asked again.
    """

    reason: str
    detail: str = ""
    status: int | None = None
    wait: float | None = None

    def passing(self) -> bool:
        """Whether the same request may be answered at another time."""
        return self.status is None or self.status in PASSING or self.status >= 500

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail[:300]}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer within a reply.

    Attributes:
        text: as the model wrote it; with thoughts alone, where the server parses them away, these in their marks.
        finished: whether the model ended by itself, rather than at the limit or at a filter.
        prompt_tokens: tokens read, where the server counts them.
        new_tokens: tokens written, where the server counts them.
    """

    text: str
    finished: bool
    prompt_tokens: int | None
    new_tokens: int | None


def read_reply(body: str) -> Reply | Fault:
    """The answer in the body of a chat completion."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return Fault("not json", repr(body[:100]))
    try:
        choice = reply["choices"][0]
        content = _content(choice["message"])
    except (LookupError, TypeError):
        return Fault("no choices", repr(body[:100]))
    usage = reply.get("usage")
    finished = choice.get("finish_reason") not in ("length", "content_filter")
    return Reply(content, finished, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def _content(message: Mapping[str, Any]) -> str:
    """The text of a message; its parts of text, where there are several (Mistral).

    Raises:
        LookupError, TypeError: it has no content of either shape.
    """
    content = message["content"]
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if not isinstance(content, str | None):
        raise TypeError
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return content or (f"<think>{thoughts}" if thoughts else "")


def read_models(body: str) -> dict[str, int | None]:
    """Names of the models in a server's list, each with its context in tokens where the server tells (vLLM, SGLang)."""
    try:
        entries = json.loads(body)["data"]
        models = {entry["id"]: entry.get("max_model_len") for entry in entries}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        one_line(str(name)): length if isinstance(length, int) and length > 0 else None
        for name, length in models.items()
    }


def read_error(body: str) -> str:
    """What the body of an error says, in one line."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        said = body
    for name in ("error", "message", "detail"):  # {"error": {"message": ...}}, {"error": ...} or {"detail": ...}
        if isinstance(said, dict) and name in said:
            said = said[name]
    return one_line(said if isinstance(said, str) else json.dumps(said))


def read_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < 2**31 else None
