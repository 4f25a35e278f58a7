"""Export and import of a summary store as JSON lines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, get_args

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import Finish, GeneratedText
from recbole_llmtrsr.summarizer.jobs import KINDS
from recbole_llmtrsr.summarizer.keys import canonical
from recbole_llmtrsr.summarizer.store.rows import REPLACED, SCORE
from recbole_llmtrsr.summarizer.store.scores import is_score
from recbole_llmtrsr.summarizer.store.store import Record, SummaryStore

_BATCH = 500  # records per transaction
_FAULTS_SHOWN = 20


@dataclass
class Imported:
    """Counts of imported lines.

    Attributes:
        new: lines whose key the store did not have.
        equal: lines whose key the store had with the same text.
        conflicting: lines whose key the store had with a different text.
    """

    new: int = 0
    equal: int = 0
    conflicting: int = 0


def export_store(store: SummaryStore, stream: BinaryIO) -> tuple[int, int]:
    """Write every undamaged summary as one line, in ascending order of keys.

    Returns:
        The number of lines, and the number of summaries omitted because they or their writer are damaged.
    """
    writers = store.writers()
    keys = store.keys()
    n_lines = 0
    for record in store.records(keys):
        if record.writer in writers:
            stream.write(_line(record, *writers[record.writer]).encode() + b"\n")
            n_lines += 1
    return n_lines, len(keys) - n_lines


def import_store(store: SummaryStore, source: Path, replace: bool = False) -> Imported:
    """Import a file of exported lines into a store; nothing is imported if any line is faulty.

    Args:
        store: the store to write to.
        source: the exported file, in UTF-8.
        replace: whether the file's texts overwrite different texts in the store.

    Raises:
        UserError: if the file cannot be read, or has lines that an export does not write.
    """
    faults: list[str] = []
    for _ in _lines(source, faults):
        pass
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        raise UserError(
            [
                *faults[:_FAULTS_SHOWN],
                *([f"and {more} more faults"] if more > 0 else []),
                f"nothing was imported from {source}: correct or remove these lines",
            ]
        )
    writers: dict[str, int] = {}
    counts = Imported()
    batch: dict[bytes, Record] = {}
    for line in _lines(source, faults):
        writer = canonical(line["writer"])
        if writer not in writers:
            writers[writer] = store.writer_id(**line["writer"])
        key = bytes.fromhex(line["key"])
        # Before the second line with a key is imported, the first must be in the store.
        if len(batch) == _BATCH or key in batch:
            _insert(store, batch, replace, counts)
            batch = {}
        answer = GeneratedText(**{field.name: line[field.name] for field in fields(GeneratedText)})
        made = (writers[writer], line["created"], line["version"])
        batch[key] = Record(key, line["kind"], answer, tuple(line["inputs"]), line["attempt"], *made)
    _insert(store, batch, replace, counts)
    return counts


def _insert(store: SummaryStore, batch: dict[bytes, Record], replace: bool, counts: Imported) -> None:
    held = store.insert(list(batch.values()), replace)
    n_equal = sum(answer.text == batch[key].answer.text for key, answer in held.items())
    counts.new += len(batch) - len(held)
    counts.equal += n_equal
    counts.conflicting += len(held) - n_equal


def _line(record: Record, name: str, settings: Mapping[str, object]) -> str:
    line = {
        "key": record.key.hex(),
        "kind": record.kind,
        "attempt": record.attempt,
        **{field.name: getattr(record.answer, field.name) for field in fields(GeneratedText)},
        "inputs": record.inputs,
        "created": record.created,
        "version": record.version,
        "writer": {"name": name, "settings": settings},
    }
    return json.dumps(line, ensure_ascii=False)


def _is_count(value: object) -> bool:
    # SQLite's integers have 64 bits.
    return type(value) is int and 0 <= value < 2**63


def _is_duration(value: object) -> bool:
    return (type(value) is int or type(value) is float) and 0 <= value < math.inf


def _is_text(pattern: str = ".*") -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) is not None


_KEY = "[0-9a-f]{32}"
_KINDS = (*KINDS, SCORE)
_is_input = _is_text(f"{REPLACED}|item:.*|call:{_KEY}")
# Field of a line -> check of its value, and a description of accepted values.
_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "key": (_is_text(_KEY), "32 digits of 0-9a-f"),
    "kind": (lambda value: value in _KINDS, f"one of {', '.join(_KINDS)}"),
    "attempt": (_is_count, "a whole number >= 0"),
    "text": (lambda value: isinstance(value, str) and len(value.splitlines()) <= 1, "a text of one line, or ''"),
    "finish": (lambda value: value in get_args(Finish), f"one of {', '.join(get_args(Finish))}"),
    "prompt_tokens": (_is_count, "a whole number >= 0"),
    "new_tokens": (_is_count, "a whole number >= 0"),
    "seconds": (_is_duration, "a number >= 0"),
    "inputs": (
        lambda value: isinstance(value, list) and all(map(_is_input, value)),
        "a list of 'item:<token>', 'call:<key>' and 'replaced'",
    ),
    "created": (_is_text(), "a text"),
    "version": (_is_text(), "a text"),
    "writer": (
        lambda value: (
            isinstance(value, dict)
            and set(value) == {"name", "settings"}
            and isinstance(value["name"], str)
            and isinstance(value["settings"], dict)
        ),
        "{'name': <text>, 'settings': <object>}",
    ),
}


def _lines(source: Path, faults: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the valid lines, and append the faults of the others to ``faults``."""
    try:
        with source.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = json.loads(raw.decode(), parse_constant=_refuse)
                    # JSON can escape half of a surrogate pair, which UTF-8 cannot encode.
                    json.dumps(line, ensure_ascii=False).encode()
                except ValueError as fault:
                    faults.append(f"{source}, line {number}: not a JSON object in UTF-8 ({fault})")
                    continue
                wrong = _wrong(line)
                faults += [f"{source}, line {number}: {text}" for text in wrong]
                if not wrong:
                    yield line
    except OSError as fault:
        raise UserError(f"--source={source} cannot be read ({fault}): give a file that 'export' wrote") from fault


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _wrong(line: object) -> list[str]:
    if not isinstance(line, dict):
        return [f"must be a JSON object, got {str(line)[:40]!r}"]
    unknown = [f"unknown field {name!r}: accepted are {', '.join(_FIELDS)}" for name in line if name not in _FIELDS]
    missing = [f"field {name!r} is missing" for name in _FIELDS if name not in line]
    return [
        *unknown,
        *missing,
        *(
            f"{name} must be {accepted}, got {str(line[name])[:40]!r}"
            for name, (accepts, accepted) in _FIELDS.items()
            if name in line and not accepts(line[name])
        ),
        *(
            [f"text of a score must be an object of yes, no, least and first, got {line['text'][:40]!r}"]
            if line.get("kind") == SCORE and isinstance(line.get("text"), str) and not is_score(line["text"])
            else []
        ),
    ]
