"""One command has one set of summaries, whatever a summarizer does when it is asked again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment import summary_stage
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.summarizer.jobs import Job, Kind
from recbole_llmtrsr.summarizer.run_record import UNANSWERED, RunRecord
from recbole_llmtrsr.summarizer.writers import make_writer
from recbole_llmtrsr.training.state_folder import StateFolder


class Stopped(BaseException):
    pass


class Moody:
    """Says something else at each call, and to every third block, while ill, nothing."""

    name = "moody"
    is_ill = True
    asked = 0

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, Any]:
        return {"writer": "moody"}

    def wording(self, kind: Kind) -> Sequence[str]:
        return ()

    def run(self, jobs: Sequence[Job]) -> Iterator[list[tuple[int, GeneratedText | GenerationFailure]]]:
        for position, job in enumerate(jobs):
            Moody.asked += 1
            fails = self.is_ill and job.items and int(job.items[0].line.split()[-1]) % 3 == 0
            yield [(position, GenerationFailure("status 500") if fails else GeneratedText(f"Mood {Moody.asked}."))]

    def count_tokens(self, text: str) -> int:
        return 0

    def report(self) -> Mapping[str, int]:
        return {}


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> type[Moody]:
    monkeypatch.setattr(make_writer, "_registered", {"moody": lambda _: Moody()})
    monkeypatch.setattr(Moody, "asked", 0)
    monkeypatch.setattr(Moody, "is_ill", True)
    return Moody


@pytest.fixture
def run(options: dict[str, Any], moody: type[Moody]) -> Callable[..., Any]:
    own = {"summarizer": "moody", "block_size": 2, "epochs": 1, "checkpoint_minutes": 0, "result_dir": "out"}

    def run(models: Sequence[str] = ("LLMTRSR",), **more: Any) -> list[dict[str, Any]]:
        return compare(models, "toy", config_dict={**options, **own, **more})[0]

    return run


STORES = pytest.mark.parametrize("store", ["store.sqlite", None])


@STORES
def test_a_run_whose_summarizer_failed_is_resumed_with_its_summaries(
    run: Any, moody: type[Moody], store: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = StateFolder.save
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(StateFolder, "save", lambda self, state: (save(self, state), stop()))
        run(summary_store=store)
    monkeypatch.setattr(moody, "is_ill", False)
    n_asked = moody.asked
    (result,) = run(summary_store=store, resume="auto")
    assert moody.asked == n_asked
    assert result["summaries"]["failures"]["status 500"] > 0
    assert not list(Path("out").rglob(UNANSWERED))


def test_only_the_main_process_keeps_the_record(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunRecord, "keep", lambda *_: pytest.fail("another process keeps its own texts"))
    monkeypatch.setattr(summary_stage, "processes", SimpleNamespace(is_main=lambda: False, count=lambda: 1))
    (result,) = run(summary_store="store.sqlite", summarize_only=True)
    assert result["summaries"]["failures"]["status 500"] > 0


def stop() -> None:
    raise Stopped


@STORES
@pytest.mark.parametrize(
    "named", [{"seeds": [1, 2]}, {"models": ["LLMTRSR", "LLMTRSR@other"], "LLMTRSR@other.epochs": 2}]
)
def test_all_runs_of_a_command_read_the_same_summaries(
    run: Any, moody: type[Moody], store: str | None, named: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = RunRecord.keep
    monkeypatch.setattr(RunRecord, "keep", lambda *given: (keep(*given), setattr(moody, "is_ill", False)))
    first, second = run(summary_store=store, summarize_only=True, **named)
    texts = [path.read_text() for path in sorted(Path("out").rglob("summaries.jsonl"))]
    assert texts[0] == texts[1]
    assert first["summaries"]["failures"] == second["summaries"]["failures"] != {}
    assert not list(Path("out").rglob(UNANSWERED))
    # Another command asks again what got no answer.
    (later,) = run(summary_store=store, summarize_only=True, result_dir="later")
    assert later["summaries"]["failures"] == {}


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"xy": "timeout"}'):
        (tmp_path / UNANSWERED).write_text(content)
        with pytest.raises(UserError, match=f"{UNANSWERED} cannot be read .*: restore the file"):
            RunRecord(tmp_path).unanswered()
    (tmp_path / UNANSWERED).write_text(json.dumps({"00ff": "timeout"}))
    assert RunRecord(tmp_path).unanswered() == {b"\x00\xff": "timeout"}
