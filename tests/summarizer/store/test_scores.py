"""Scores in a summary store: found by prompt and settings, beside summaries, in files of earlier releases too."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.llm.generators.server_scores import AnswerLogprobs
from recbole_llmtrsr.summarizer.store.exchange import export_store, import_store
from recbole_llmtrsr.summarizer.store.rows import Record
from recbole_llmtrsr.summarizer.store.scores import stored_scores
from recbole_llmtrsr.summarizer.store.store import SummaryStore

SETTINGS = {"model": "tiny", "answers": ["yes", "no"]}
A = AnswerLogprobs(-0.5, -1.25, -7.0, " yes", 40, 0.25)
B = AnswerLogprobs(None, -1.25, -7.0, "Théâtre\n", 41, 0.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sqlite"


def test_scores_are_found_by_their_prompt(path: Path) -> None:
    with stored_scores(path, "openai:tiny", SETTINGS) as scores:
        scores.put("a", A)
        scores.put("b", B)
    with stored_scores(path, "openai:tiny", SETTINGS) as scores:
        assert scores.find(["b", "c", "a"]) == {"a": A, "b": B}
        assert scores.find([]) == {}


@pytest.mark.parametrize("settings", [{**SETTINGS, "model": "other"}, {**SETTINGS, "answers": ["Yes", "No"]}])
def test_other_settings_have_other_scores(path: Path, settings: dict[str, object]) -> None:
    with stored_scores(path, "openai:tiny", SETTINGS) as scores:
        scores.put("a", A)
    with stored_scores(path, "openai:tiny", settings) as scores:
        assert scores.find(["a"]) == {}


def test_the_first_score_of_a_prompt_is_kept(path: Path) -> None:
    with stored_scores(path, "openai:tiny", SETTINGS) as scores:
        assert scores.put("a", A) == A
        assert scores.put("a", B) == A  # with which a later run ranks, too
        assert scores.find(["a"]) == {"a": A}


def test_summaries_in_the_same_file_stay(path: Path) -> None:
    key = b"a" * 16
    with SummaryStore(path) as store:
        store.put(store.writer_id("w", {}), [Record(key, "block", GeneratedText("Likes noir."), ())])
    with stored_scores(path, "openai:tiny", SETTINGS) as scores:
        scores.put("a", A)
    with SummaryStore(path) as store:
        assert store.find([key]) == {key: GeneratedText("Likes noir.")}
        assert [kind for _, kind in store.speeds()] == ["block", "score"]
        assert store.check_file() == []


def test_scores_are_exported_and_imported(path: Path, tmp_path: Path) -> None:
    with stored_scores(path, "openai:tiny", SETTINGS) as scores:
        scores.put("b", B)
    lines = tmp_path / "lines.jsonl"
    with SummaryStore(path) as store, lines.open("wb") as stream:
        export_store(store, stream)
    with SummaryStore(tmp_path / "other.sqlite") as store:
        import_store(store, lines)
        again = io.BytesIO()
        export_store(store, again)
    assert again.getvalue() == lines.read_bytes()
    with stored_scores(tmp_path / "other.sqlite", "openai:tiny", SETTINGS) as scores:
        assert scores.find(["b"]) == {"b": B}


def test_without_a_file_scores_last_as_long_as_the_block() -> None:
    with stored_scores(None, "openai:tiny", SETTINGS) as scores:
        scores.put("a", A)
        assert scores.find(["a"]) == {"a": A}
    with stored_scores(None, "openai:tiny", SETTINGS) as scores:
        assert scores.find(["a"]) == {}
