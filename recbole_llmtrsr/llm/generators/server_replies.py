"""Parsing of server replies: answers, log-probabilities, lists of models and errors, in the formats of many servers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from recbole_llmtrsr.errors import one_line
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure


def read_reply(body: str) -> GeneratedText | GenerationFailure:
    """Parse a chat completion; an answer that consists of thoughts keeps their mark, and missing token counts are 0."""
    try:
        reply = json.loads(body)
        choice = reply["choices"][0]
        text = _content(choice["message"])
    except (LookupError, TypeError):
        return GenerationFailure("no choices", repr(body[:100]))
    except (ValueError, RecursionError):
        return GenerationFailure("not json", repr(body[:100]))
    usage, is_cut = reply.get("usage"), choice.get("finish_reason") in ("length", "content_filter")
    counts = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return GeneratedText(text, *counts, finish="length" if is_cut else "stop")


def _content(message: Mapping[str, Any]) -> str:
    """The text of a message, or of its text parts (Mistral); LookupError or TypeError if it has neither."""
    content = message["content"]
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if not isinstance(content, str | None):
        raise TypeError
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return content or (f"<think>{thoughts}" if thoughts else "")


def _count(usage: object, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < 2**31 else 0


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The most likely first tokens of an answer.

    Attributes:
        logprobs: log-probabilities and texts; a text may occur several times. Empty if the server states none.
        n_choices: number of answers in the reply, of which this is the first.
        prompt_tokens: number of tokens read, 0 if the server does not state it.
    """

    logprobs: Sequence[tuple[str, float]]
    n_choices: int
    prompt_tokens: int


def read_first_token(body: str) -> FirstToken | GenerationFailure:
    """Parse the first token of a completion, or of a chat completion, and the tokens that were likely in its place."""
    try:
        reply = json.loads(body)
        choices = reply["choices"]
        found = _top_logprobs(choices[0].get("logprobs") or {})
    except (LookupError, TypeError, AttributeError):
        return GenerationFailure("no choices", repr(body[:100]))
    except (ValueError, RecursionError):
        return GenerationFailure("not json", repr(body[:100]))
    tokens = [(str(token), float(value)) for token, value in found if _is_logprob(value)]
    return FirstToken(tokens, len(choices), _count(reply.get("usage"), "prompt_tokens"))


def _top_logprobs(logprobs: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Tokens of the first position with their log-probabilities; empty if there are none.

    Chat completions, and both kinds of llama.cpp, list objects of a token; completions map texts to numbers.
    """
    if content := logprobs.get("content"):
        return [(one["token"], one["logprob"]) for one in content[0].get("top_logprobs") or ()]
    return list((logprobs.get("top_logprobs") or [{}])[0].items())


def _is_logprob(value: object) -> bool:
    """Whether a value is a log-probability; servers write null, -inf or -9999 for that of an impossible token."""
    return isinstance(value, int | float) and -9999 < value < 0.01  # rounding may exceed 0


def read_models(body: str) -> dict[str, int | None]:
    """Parse a list of models: name -> context in tokens, if the server states it (vLLM, SGLang)."""
    try:
        models = {one_line(str(one["id"])): one.get("max_model_len") for one in json.loads(body)["data"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: length if isinstance(length, int) and length > 0 else None for name, length in models.items()}


def read_error(said: object) -> str:
    """The message of an error, on one line; servers send it as 'message', as 'detail', or without a key."""
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and name in said:
            said = said[name]
    return one_line(said if isinstance(said, str) else json.dumps(said))


def read_wait(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, from a number or a date; 0 for other values."""
    value = headers.get("retry-after", "")
    try:
        return float(value)
    except ValueError:
        try:
            return parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, TypeError):
            return 0.0
