"""run.json: what was asked for in a folder, and what of it is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.run_file import RunFile, latest_unfinished, read_run_file

RUNS = {"Pop, seed 1": {"seed": 1, "epochs": 2}, "BPR, seed 1": {"seed": 1, "epochs": 3}}
FILES = {"toy.inter": "ab", "toy.item": "cd"}
VERSIONS = {"torch": "2.13.0"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder."""
    return tmp_path


def begun(folder: Path, *finished: str) -> Path:
    folder.mkdir(exist_ok=True)
    record = RunFile(folder, RUNS, FILES, VERSIONS)
    for name in finished:
        record.finish(name)
    (folder / "something").touch()
    record.close()
    return folder


def test_what_has_finished_is_known_to_the_next_process(out: Path) -> None:
    begun(out, "Pop, seed 1")
    record = RunFile(out, RUNS, FILES, VERSIONS)
    assert record.finished == ["Pop, seed 1"]
    record.finish("BPR, seed 1")
    record.close()
    content = json.loads((out / "run.json").read_text())
    assert content["runs"] == RUNS
    assert content["finished"] == ["Pop, seed 1", "BPR, seed 1"]
    assert content["complete"] is False
    assert sorted(path.name for path in out.iterdir()) == [".run.lock", "run.json", "something"]


def test_where_the_runs_left_nothing_nothing_is_left(out: Path) -> None:
    (out / "Pop").mkdir()
    RunFile(out, RUNS, FILES, VERSIONS).close()
    assert [path.name for path in out.iterdir()] == ["Pop"]


def test_other_runs_and_other_options_are_refused_and_named(out: Path) -> None:
    begun(out)
    others = {"Pop, seed 1": {"seed": 1, "epochs": 5, "loss": "x"}, "ItemKNN, seed 1": {}}
    with pytest.raises(UserError) as refused:
        RunFile(out, others, FILES, VERSIONS)
    assert refused.value.faults[1:-1] == (
        "ItemKNN, seed 1 is not among the runs that were begun there",
        "BPR, seed 1 was begun there too",
        "Pop, seed 1 began with epochs: 2, not 5",
        "Pop, seed 1 began with loss: None, not x",
    )
    RunFile(out, RUNS, FILES, VERSIONS).close()  # the refusal left the folder to others


@pytest.mark.parametrize("option", ["resume", "result_dir", "checkpoint_minutes", "gpu_id", "data_path"])
def test_options_that_change_no_result_may_change(out: Path, option: str) -> None:
    begun(out)
    changed = {name: {**options, option: "other"} for name, options in RUNS.items()}
    RunFile(out, changed, FILES, VERSIONS).close()


def test_files_that_changed_came_or_went_are_refused_and_named(out: Path) -> None:
    begun(out)
    with pytest.raises(UserError) as refused:
        RunFile(out, RUNS, {"toy.item": "ce", "toy.user": "ef"}, VERSIONS)
    assert refused.value.faults[1:-1] == (
        "the file toy.inter is not what it was then",
        "the file toy.item is not what it was then",
        "the file toy.user is not what it was then",
    )


def test_other_versions_are_told_of(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun(out)
    RunFile(out, RUNS, FILES, {"torch": "2.14.0"}).close()
    assert "started with torch 2.13.0, now 2.14.0" in caplog.text


def test_a_folder_belongs_to_one_process_until_that_one_dies(out: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from recbole_llmtrsr.experiment.run_file import RunFile\n"
        f"record = RunFile(Path(sys.argv[1]), {RUNS!r}, {FILES!r}, {VERSIONS!r})\n"
        "print('has it', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(out)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"has it\n"
        with pytest.raises(UserError, match="another process uses"):
            RunFile(out, RUNS, FILES, VERSIONS)
        assert latest_unfinished([out], RUNS) is None
        other.kill()
    assert latest_unfinished([out], RUNS) == out
    RunFile(out, RUNS, FILES, VERSIONS).close()


def test_a_resumed_run_removes_no_file_of_the_users(out: Path) -> None:
    begun(out)
    for name in ("notes.tmp", "other/precious.tmp", "Pop/tmpx.tmp", "saved.tmp/x"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("x")
    before = sorted(out.rglob("*"))
    RunFile(out, RUNS, FILES, VERSIONS).close()
    assert sorted(out.rglob("*")) == before


def test_what_the_user_keeps_there_makes_no_account_of_a_run_that_left_nothing(out: Path) -> None:
    (out / "mine").write_text("x")
    RunFile(out, RUNS, FILES, VERSIONS).close()
    assert [path.name for path in out.iterdir()] == ["mine"]


@pytest.mark.parametrize("left", ["Pop/training-states/epoch-1", "Pop/seed-1/run.log", "BPR/x", "Pop/kept"])
def test_what_a_run_left_in_a_folder_that_was_there_keeps_its_account(out: Path, left: str) -> None:
    (out / "Pop" / "seed-1").mkdir(parents=True)
    (out / "Pop" / "kept").touch()
    os.utime(out / "Pop" / "kept", (1_000, 1_000))
    record = RunFile(out, RUNS, FILES, VERSIONS)
    (out / left).parent.mkdir(exist_ok=True)
    (out / left).write_text("x")
    record.close()
    assert latest_unfinished([out], RUNS) == out


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runs": {}}', "null"])
def test_a_file_of_others_is_not_taken_for_ours(out: Path, content: str) -> None:
    (out / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json cannot be read as the record of a run"):
        read_run_file(out)
    assert latest_unfinished([out], RUNS) is None


def test_the_latest_of_the_same_runs_that_have_not_finished_is_found(out: Path) -> None:
    folders = [begun(out / name) for name in ("old", "new")]
    untold = begun(out / "all-finished", *RUNS)  # but killed before its tables were written
    finished = begun(out / "complete", *RUNS)
    record = RunFile(finished, RUNS, FILES, VERSIONS)
    record.complete()
    record.close()
    for time, folder in enumerate([*folders, finished]):
        os.utime(folder / "run.json", (1_000 + time, 1_000 + time))
    assert latest_unfinished([*folders, finished], RUNS) == out / "new"
    assert latest_unfinished([untold, finished], RUNS) == untold
    assert latest_unfinished([out / "old", out], RUNS) == out / "old"
    assert latest_unfinished(folders, {"Pop, seed 1": RUNS["Pop, seed 1"]}) is None


def test_an_option_that_there_was_not_yet_had_its_default(out: Path) -> None:
    record = RunFile(out, {"Pop, seed 1": {"seed": 1}}, FILES, VERSIONS)
    (out / "something").touch()
    record.close()
    RunFile(out, {"Pop, seed 1": {"seed": 1, "summarizer_request": {}}}, FILES, VERSIONS).close()
    with pytest.raises(UserError, match="began with block_size: 5, not 3"):
        RunFile(out, {"Pop, seed 1": {"seed": 1, "block_size": 3}}, FILES, VERSIONS)
