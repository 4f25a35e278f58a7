"""Export and import: the same file comes out, every fault of a line is told, nothing is overwritten unasked."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.summarizer.store.exchange import Imported, export_store, import_store
from recbole_llmtrsr.summarizer.store.store import Record, SummaryStore

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))
A_LINE = (
    '{"key": "61616161616161616161616161616161", "kind": "merge", "attempt": 1, "text": "Likes “film noir” 😀",'
    ' "prompt_tokens": 40, "new_tokens": 5, "seconds": 0.125, "finish": "length",'
    ' "inputs": ["call:62626262626262626262626262626262", "item:ü 1"], "created": "2026-01-02T03:04:05+00:00",'
    ' "version": "0.1.0", "writer": {"name": "org/model", "settings": {"a": [1, null], "é": true}}}\n'
)
B_LINE = (
    '{"key": "62626262626262626262626262626262", "kind": "block", "attempt": 0, "text": "",'
    ' "prompt_tokens": 0, "new_tokens": 0, "seconds": 0.0, "finish": "stop",'
    ' "inputs": [], "created": "2026-01-02T03:04:05+00:00",'
    ' "version": "0.1.0", "writer": {"name": "extractive", "settings": {}}}\n'
)

INPUTS = "must be a list of 'item:<token>', 'call:<key>' and 'replaced', got"


@pytest.fixture
def store() -> SummaryStore:
    """In memory; b was put before a, and the settings of a's writer are not in canonical order."""
    store = SummaryStore(None)
    made = ("2026-01-02T03:04:05+00:00", "0.1.0")
    store.insert([Record(B, "block", GeneratedText(""), (), 0, store.writer_id("extractive", {}), *made)])
    writer = store.writer_id("org/model", {"é": True, "a": [1, None]})
    inputs = (f"call:{B.hex()}", "item:ü 1")
    answer = GeneratedText("Likes “film noir” 😀", 40, 5, 0.125, "length")
    store.insert([Record(A, "merge", answer, inputs, 1, writer, *made)])
    return store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text(A_LINE + B_LINE, encoding="utf-8")
    return path


def exported(store: SummaryStore) -> str:
    stream = io.BytesIO()
    export_store(store, stream)
    return stream.getvalue().decode()


def other(line: str, **values: Any) -> str:
    return json.dumps({**json.loads(line), **values}) + "\n"


def test_an_export_has_one_line_per_summary_by_ascending_key(store: SummaryStore) -> None:
    stream = io.BytesIO()
    assert export_store(store, stream) == (2, 0)
    assert stream.getvalue().decode() == A_LINE + B_LINE


def test_what_was_imported_into_a_new_store_exports_the_identical_file(tmp_path: Path, source: Path) -> None:
    with SummaryStore(tmp_path / "new.sqlite") as store:
        assert import_store(store, source) == Imported(new=2, equal=0, conflicting=0)
        assert exported(store) == A_LINE + B_LINE
        assert store.find([A]) == {A: GeneratedText("Likes “film noir” 😀", 40, 5, 0.125, "length")}


def test_a_second_import_finds_everything_there(store: SummaryStore, source: Path) -> None:
    assert import_store(store, source) == Imported(new=0, equal=2, conflicting=0)
    assert exported(store) == A_LINE + B_LINE


@pytest.mark.parametrize(("replace", "text"), [(False, "Likes “film noir” 😀"), (True, "Hates it.")])
def test_another_text_for_a_known_call_is_counted_and_taken_only_when_told(
    store: SummaryStore, source: Path, replace: bool, text: str
) -> None:
    source.write_text(other(A_LINE, text="Hates it.") + B_LINE + other(B_LINE, key=C.hex()), encoding="utf-8")
    assert import_store(store, source, replace) == Imported(new=1, equal=1, conflicting=1)
    assert store.find([A])[A].text == text
    assert set(store.find([A, B, C])) == {A, B, C}


def test_of_two_lines_with_one_key_the_first_counts(source: Path) -> None:
    source.write_text(B_LINE + other(B_LINE, text="second") + B_LINE)
    with SummaryStore(None) as store:
        assert import_store(store, source) == Imported(new=1, equal=1, conflicting=1)
        assert store.find([B]) == {B: GeneratedText("")}


def test_more_lines_than_one_transaction_takes_are_all_taken(source: Path) -> None:
    source.write_text("".join(other(B_LINE, key=f"{number:032x}", text=str(number)) for number in range(1203)))
    with SummaryStore(None) as store:
        assert import_store(store, source) == Imported(new=1203, equal=0, conflicting=0)
        assert [answer.text for answer in store.find(store.keys()).values()] == [str(n) for n in range(1203)]


def test_damaged_summaries_are_left_out_of_an_export_counted_and_replaced_by_an_import(
    tmp_path: Path, source: Path
) -> None:
    path = tmp_path / "new.sqlite"
    with SummaryStore(path) as store:
        import_store(store, source)
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE summaries SET text = 'x' WHERE key = ?", (A,))
    database.close()
    with SummaryStore(path) as store:
        stream = io.BytesIO()
        assert export_store(store, stream) == (1, 1)
        assert stream.getvalue().decode() == B_LINE
        assert import_store(store, source) == Imported(new=1, equal=1, conflicting=0)
        assert exported(store) == A_LINE + B_LINE


FAULTS: list[tuple[Callable[[], str], str]] = [
    (lambda: "\n", "not a JSON object in UTF-8 (Expecting value"),
    (lambda: "[1]\n", "must be a JSON object, got '[1]'"),
    (lambda: '{"key": "61"', "not a JSON object in UTF-8 (Expecting"),
    (lambda: other(A_LINE, key="6161"), "key must be 32 digits of 0-9a-f, got '6161'"),
    (lambda: other(A_LINE, key=["a"]), "key must be 32 digits of 0-9a-f, got \"['a']\""),
    (lambda: other(A_LINE, kind="blocks"), "kind must be one of block, update, merge, score, got 'blocks'"),
    (lambda: other(A_LINE, attempt=True), "attempt must be a whole number >= 0, got 'True'"),
    (lambda: other(A_LINE, text="two\nlines"), "text must be a text of one line, or '', got"),
    (lambda: other(A_LINE, text=None), "text must be a text of one line, or '', got 'None'"),
    (lambda: other(A_LINE, text="\ud800"), "not a JSON object in UTF-8 ('utf-8' codec can't encode"),
    (lambda: other(A_LINE, finish="eos"), "finish must be one of stop, length, got 'eos'"),
    (lambda: other(A_LINE, new_tokens=-1), "new_tokens must be a whole number >= 0, got '-1'"),
    (lambda: other(A_LINE, prompt_tokens=2**63), "prompt_tokens must be a whole number >= 0, got '9223"),
    (lambda: other(A_LINE, seconds=float("inf")), "not a JSON object in UTF-8 (Infinity is not JSON)"),
    (lambda: A_LINE.replace("0.125", "1e999"), "seconds must be a number >= 0, got 'inf'"),
    (lambda: other(A_LINE, inputs=["i1"]), f"inputs {INPUTS}"),
    (lambda: other(A_LINE, inputs=["call:61"]), f"inputs {INPUTS}"),
    (lambda: other(A_LINE, inputs=[5]), f"inputs {INPUTS}"),
    (lambda: other(A_LINE, writer={"name": "x"}), "writer must be {'name': <text>, 'settings': <object>}, got"),
    *(
        (lambda text=text: other(A_LINE, kind="score", text=text), "text of a score must be an object of yes, no, ")
        for text in ("yes", "{}", '{"yes": null, "no": NaN, "least": -1.0, "first": "a"}')
    ),
    (lambda: other(A_LINE, note="hm"), "unknown field 'note': accepted are key, kind, attempt, text, "),
    (lambda: A_LINE.replace('"attempt": 1, ', ""), "field 'attempt' is missing"),
]


@pytest.mark.parametrize(("bad", "message"), FAULTS)
def test_a_line_at_fault_is_told_by_number_and_nothing_is_imported(
    source: Path, bad: Callable[[], str], message: str
) -> None:
    source.write_text(B_LINE + bad() + A_LINE, encoding="utf-8")
    with SummaryStore(None) as store:
        with pytest.raises(UserError) as raised:
            import_store(store, source)
        assert raised.value.faults[0].startswith(f"{source}, line 2: {message}")
        assert raised.value.faults[1:] == (f"nothing was imported from {source}: correct or remove these lines",)
        assert store.keys() == []
        source.write_text(B_LINE + A_LINE, encoding="utf-8")  # the remedy
        assert import_store(store, source).new == 2


def test_bytes_that_are_no_utf_8_are_told_by_number(source: Path) -> None:
    source.write_bytes(A_LINE.encode() + B_LINE.encode().replace(b"extractive", b"\xff"))
    with SummaryStore(None) as store, pytest.raises(UserError, match="line 2: not a JSON object in UTF-8"):
        import_store(store, source)


def test_all_faults_are_told_at_once_up_to_twenty(source: Path) -> None:
    source.write_text(other(A_LINE, kind="x", finish="x") + "[]\n" * 30)
    with SummaryStore(None) as store, pytest.raises(UserError) as raised:
        import_store(store, source)
    assert [fault.split(": ")[0][-7:] for fault in raised.value.faults[:3]] == [" line 1", " line 1", " line 2"]
    assert raised.value.faults[20] == "and 12 more faults"
    assert len(raised.value.faults) == 22


def test_a_missing_source_names_the_remedy(tmp_path: Path) -> None:
    with SummaryStore(None) as store, pytest.raises(UserError, match=r"--source=.* cannot be read .*'export' wrote"):
        import_store(store, tmp_path / "none.jsonl")
