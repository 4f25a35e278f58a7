"""Rows of a summary store: answered calls and writers, each row with a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, cast

from recbole_llmtrsr.llm.generators.generation import Finish, GeneratedText
from recbole_llmtrsr.summarizer.jobs import Kind
from recbole_llmtrsr.summarizer.keys import canonical

StoredKind = Kind | Literal["score"]
SCORE: Literal["score"] = "score"  # the kind of a score by a server, beside those of a writer's calls
REPLACED = "replaced"  # an input that was written for one run, in place of an answer
COLUMNS = "key, writer, kind, attempt, text, finish, prompt_tokens, new_tokens, seconds, inputs, created, version"
_CONTENT = b"%b|%d|%b|%d|%b|%b|%d|%d|%a|%b|%b|%b"  # of these columns, for the checksum


@dataclass(frozen=True, slots=True)
class Record:
    """One answered call as stored.

    Attributes:
        key: content address of the call, 16 bytes.
        kind: kind of the call, or 'score'.
        answer: the writer's answer, unchanged.
        inputs: inputs of the call, oldest first: 'item:<token>', 'call:<key in hex>', or 'replaced' for an earlier text
            that the store does not hold.
        attempt: 0, or 1 for the second attempt after a faulty answer.
        writer: the writer's number in the store.
        created: time of storage, UTC.
        version: version of the release that stored the answer.
    """

    key: bytes
    kind: StoredKind
    answer: GeneratedText
    inputs: tuple[str, ...]
    attempt: int = 0
    writer: int = 0
    created: str = ""
    version: str = ""


@dataclass(frozen=True)
class Claims:
    """State of the calls that a process wants to make.

    Attributes:
        found: answers that are already in the store.
        mine: keys that this process claimed, in the order given.
        busy: keys that another running process claimed.
    """

    found: dict[bytes, GeneratedText]
    mine: list[bytes]
    busy: list[bytes]


@dataclass(frozen=True, slots=True)
class Speed:
    """Totals over calls; ``cut_off`` counts those that ended at the token limit."""

    calls: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    cut_off: int = 0


def writer_row(name: str, settings: Mapping[str, object]) -> tuple[str, str, bytes]:
    """Name, settings and digest of a writer."""
    text = canonical(settings)
    return name, text, _digest(b"%b|%b" % (name.encode(), text.encode()), 16)


def record_row(record: Record) -> tuple[object, ...]:
    """The columns of a record, and their checksum."""
    answer = record.answer
    said = (record.kind, record.attempt, answer.text, answer.finish)
    cost = (answer.prompt_tokens, answer.new_tokens, float(answer.seconds))
    inputs = json.dumps(record.inputs, ensure_ascii=False, separators=(",", ":"))
    row = (record.key, record.writer, *said, *cost, inputs, record.created, record.version)
    return (*row, _digest(_CONTENT % tuple(value.encode() if isinstance(value, str) else value for value in row), 8))


def is_sound(row: tuple[object, ...]) -> bool:
    """Whether the checksum of a row of summaries matches; texts are bytes, as read."""
    return _is_sound(_CONTENT, row, 8)


def is_sound_writer(row: tuple[object, ...]) -> bool:
    """Whether the checksum of a row of writers matches; texts are bytes, as read."""
    return _is_sound(b"%b|%b", row, 16)


def row_record(row: tuple[Any, ...]) -> Record:
    """The record of a sound row."""
    key, writer, kind, attempt, text, finish, prompt_tokens, new_tokens, seconds, inputs, created, version, _ = row
    answer = GeneratedText(text.decode(), prompt_tokens, new_tokens, seconds, cast(Finish, finish.decode()))
    put = (attempt, writer, created.decode(), version.decode())
    return Record(key, cast(StoredKind, kind.decode()), answer, tuple(json.loads(inputs)), *put)


def _digest(content: bytes, size: int) -> bytes:
    return blake2b(content, digest_size=size).digest()


def _is_sound(content: bytes, row: tuple[object, ...], size: int) -> bool:
    try:
        return _digest(content % row[:-1], size) == row[-1]
    except TypeError:  # a column of another type
        return False
