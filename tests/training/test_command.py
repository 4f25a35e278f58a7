"""What --resume takes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.runtime.atomic_write import draft_name
from recbole_llmtrsr.training.state_folder import StateFolder

Run = Callable[..., tuple[list[dict[str, Any]], Path]]


class Stopped(BaseException):
    pass


@pytest.fixture
def run(options: dict[str, Any]) -> Run:
    def run(*models: str, **more: Any) -> tuple[list[dict[str, Any]], Path]:
        given = {**options, "epochs": 1, "checkpoint_minutes": 0, **more}
        return compare(models or ("SASRec", "LLMTRSR"), "toy", config_dict=given)

    return run


@contextmanager
def stopped_when(is_time: Callable[[StateFolder, Any], bool]) -> Iterator[None]:
    """The run within is stopped behind the first state of which this holds."""
    save = StateFolder.save

    def save_and_stop(self: StateFolder, state: Any) -> bool:
        done = save(self, state)
        if is_time(self, state):
            raise Stopped
        return done

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(StateFolder, "save", save_and_stop)
        yield


def stopped_in(model: str) -> AbstractContextManager[None]:
    """Stopped at the first state of a model; of a single one, which is trained in "out"."""
    return stopped_when(lambda folder, _: folder._folder.parent.name in (model, "out"))


def stopped_at(phase: str) -> AbstractContextManager[None]:
    return stopped_when(lambda _, state: state["phase"] == phase)


@pytest.fixture
def stopped(run: Run) -> Path:
    """Where SASRec has finished and LLMTRSR has only begun."""
    with stopped_in("LLMTRSR"):
        run(result_dir="out")
    return Path("out")


def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that fills with the labels of runs that are made."""
    from recbole_llmtrsr import quick_start

    labels, original = [], quick_start.run_pipeline

    def noted(config: Any, *args: Any) -> Any:
        labels.append(config.label)
        return original(config, *args)

    monkeypatch.setattr(quick_start, "run_pipeline", noted)
    return labels


def test_runs_that_have_finished_are_read_and_not_made_again(
    run: Run, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads((stopped / "run.json").read_text())["finished"] == ["SASRec, seed 2020"]
    before = (stopped / "SASRec" / "result.json").read_bytes()
    labels = trained(monkeypatch)
    results, folder = run(resume="out")
    assert labels == ["LLMTRSR"]
    assert folder == stopped
    assert (stopped / "SASRec" / "result.json").read_bytes() == before
    assert [result["label"] for result in results] == ["SASRec", "LLMTRSR"]
    comparison = json.loads((stopped / "comparison.json").read_text())
    assert [row["label"] for row in comparison["rows"]] == ["SASRec", "LLMTRSR"]
    # Once more: nothing is left to do, and the tables come out the same.
    again, _ = run(resume="out", n_resamples=2000)
    assert labels == ["LLMTRSR"]
    assert again == json.loads(json.dumps(results))
    assert json.loads((stopped / "comparison.json").read_text()) == comparison


@pytest.mark.slow
def test_auto_goes_on_where_the_same_options_began(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with stopped_in("LLMTRSR"):
        run(resume="auto")
    (begun,) = Path("results/runs").iterdir()
    labels = trained(monkeypatch)
    assert run(resume="auto", epochs=2)[1] != begun  # other options: a new run
    assert run(resume="auto")[1] == begun
    assert labels == ["SASRec", "LLMTRSR", "LLMTRSR"]
    assert run("Pop", resume="auto")[1] != begun  # it has finished: another one begins


def test_auto_with_a_folder_begins_or_goes_on_there(run: Run, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = trained(monkeypatch)
    assert run(resume="auto", result_dir="out")[1] == stopped
    assert run(resume="auto", result_dir="out")[1] == stopped
    assert run("Pop", resume="auto", result_dir="new")[1] == Path("new")
    assert labels == ["LLMTRSR", "Pop"]


def test_a_stopped_run_is_not_written_over(run: Run, stopped: Path) -> None:
    with pytest.raises(UserError, match="out holds a run that was stopped: resume it with --resume=out"):
        run(result_dir="out")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"resume": "nowhere"}, r"resume: nowhere holds no run\.json"),
        ({"resume": "out", "result_dir": "elsewhere"}, "resume: out and result_dir: elsewhere name different folders"),
        ({"resume": "out", "seed": 3}, "SASRec, seed 3 is not among the runs that were begun there"),
        ({"resume": "out", "epochs": 2}, "SASRec, seed 2020 began with epochs: 1, not 2"),
        ({"LLMTRSR.resume": "out"}, "resume must be the same for all models"),
    ],
)
def test_what_cannot_go_on_there_is_refused(run: Run, stopped: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(**more)


def test_results_without_an_account_are_not_gone_on_with(run: Run) -> None:
    run("Pop", result_dir="out")
    Path("out/run.json").unlink()
    with pytest.raises(UserError, match=r"resume: out holds no run\.json"):
        run("Pop", resume="out")
    with pytest.raises(UserError, match="out holds results already"):
        run("Pop", resume="auto", result_dir="out")


@pytest.mark.parametrize(("file", "line"), [("toy.inter", "u7\ti3\t99\n"), ("toy.item", "i13\tNew\n")])
def test_data_that_changed_meanwhile_are_refused(run: Run, stopped: Path, file: str, line: str) -> None:
    path = Path("data/toy") / file
    path.write_text(path.read_text() + line)
    with pytest.raises(UserError, match=f"the file {file} is not what it was then"):
        run(resume="out")


def test_a_number_format_that_changed_meanwhile_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with stopped_at("validation"):
        run("LLMTRSR", result_dir="out", state="WARNING")
    with monkeypatch.context() as patched:
        patched.setattr("recbole_llmtrsr.training.trainer.weights_dtype", lambda *_: torch.bfloat16)
        run("LLMTRSR", resume="out", state="WARNING")
    assert "precision: auto began this run in fp32 and continues it in bf16" in caplog.text


@pytest.mark.slow
def test_a_checkpoint_that_is_gone_is_told_of(run: Run) -> None:
    with stopped_at("fitted"):
        run("LLMTRSR", result_dir="out")
    for path in Path("saved").glob("*.pth"):
        path.unlink()
    with pytest.raises(
        UserError, match=r"the checkpoint .*\.pth of the run to resume does not exist: restore the file"
    ):
        run("LLMTRSR", resume="out")


@pytest.mark.slow
def test_a_run_that_keeps_no_checkpoint_is_resumed_too(options: dict[str, Any], outcome: Any) -> None:
    given = {**options, "checkpoint_minutes": 0}
    expected, _ = compare(["LLMTRSR"], "toy", config_dict={**given, "result_dir": "whole"}, saved=False)
    for phase in ("step", "fitted"):
        with stopped_at(phase):
            compare(["LLMTRSR"], "toy", config_dict={**given, "result_dir": phase}, saved=False)
        found, _ = compare(["LLMTRSR"], "toy", config_dict={**given, "resume": phase}, saved=False)
        assert found[0]["test_result"] == expected[0]["test_result"]
        assert found[0]["train_loss"] == expected[0]["train_loss"]


@pytest.mark.slow
def test_a_run_that_continues_a_checkpoint_continues_it_after_a_stop_too(run: Run, outcome: Any) -> None:
    (first,), _ = run("LLMTRSR", result_dir="first")
    given = {"epochs": 2, "checkpoint": first["checkpoint"], "result_dir": "out", "summary_store": None}
    with stopped_in("LLMTRSR"):
        run("LLMTRSR", **given)
    run("LLMTRSR", **{**given, "resume": "auto"})
    run("LLMTRSR", **{**given, "result_dir": "whole"})
    assert outcome(Path("out")) == outcome(Path("whole"))
    assert list(outcome(Path("out"))["result.json"]["train_loss"]) == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("ItemKNN", "a saved state cannot hold a csc_matrix"),
        ("LINE", "it keeps a state that no checkpoint has"),
        ("RecVAE", "RecVAETrainer has a loop of its own"),
    ],
)
def test_what_cannot_be_saved_is_told_and_trained_anew(
    run: Run, model: str, reason: str, outcome: Any, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"epochs": 2, "exclude_seen": "yes", "state": "WARNING"}
    run(model, **given, result_dir="whole")
    assert f"training of {model} cannot be resumed and would start again: {reason}" in caplog.text
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
        patched.setattr("recbole_llmtrsr.experiment.pipeline.FinalTest.table", stopped_here)
        run(model, **given, result_dir="out")
    run(model, **given, resume="out")
    whole, found = outcome(Path("whole")), outcome(Path("out"))
    assert found["result.json"]["train_loss"] == whole["result.json"]["train_loss"]
    assert found["result.json"]["test_result"] == whole["result.json"]["test_result"]


def stopped_here(*args: Any, **kwargs: Any) -> Any:
    raise Stopped


def test_a_stop_between_the_last_run_and_the_tables_trains_nothing_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
        patched.setattr("recbole_llmtrsr.quick_start.write_comparison", stopped_here)
        run("Pop", "SASRec", resume="auto")
    (begun,) = Path("results/runs").iterdir()
    labels = trained(monkeypatch)
    assert run("Pop", "SASRec", resume="auto")[1] == begun
    assert labels == []
    assert (begun / "comparison.md").is_file()


@pytest.mark.parametrize("model", ["LLMTRSR", "SASRec"])
def test_a_stop_between_the_best_checkpoint_and_its_state_changes_nothing(run: Run, outcome: Any, model: str) -> None:
    given = {"epochs": 3, "summary_store": None}
    run(model, **given, result_dir="whole")

    from recbole_llmtrsr.training.resumable import ResumableTraining

    validated, n_validated = ResumableTraining.validated, []

    def stop_the_second_time(self: Any, epoch: int, score: float) -> None:
        n_validated.append(epoch)
        if len(n_validated) == 2:
            raise Stopped
        validated(self, epoch, score)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(ResumableTraining, "validated", stop_the_second_time)
        run(model, **given, result_dir="out", checkpoint_minutes=1000)
    run(model, **given, resume="out", checkpoint_minutes=1000)
    assert outcome(Path("out")) == outcome(Path("whole"))


@pytest.mark.slow
def test_the_users_files_and_empty_folders_outlive_a_run_that_was_stopped(run: Run) -> None:
    files = [Path(name) for name in ("notes.tmp", "other/precious.tmp", "LLMTRSR/x.tmp", "training-states/mine.tmp")]
    files += [draft_name(Path("other/result.json"))]  # another command is writing it
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    folders = [Path("empty"), Path("SASRec/empty"), Path("LLMTRSR/ablations")]
    for path in folders:
        path.mkdir(parents=True)
    with stopped_in("LLMTRSR"):
        run(result_dir=".")
    debris = draft_name(Path("LLMTRSR/result.json"))
    debris.touch()
    run(resume=".")
    assert not debris.exists()
    assert all(path.is_file() for path in files)
    assert all(path.is_dir() for path in folders)


@pytest.mark.parametrize("options_of", [{"dry_run": True}, {"eval_args": {"mode": "uni99"}}])
def test_a_run_that_leaves_nothing_leaves_the_users_folders(run: Run, options_of: dict[str, Any]) -> None:
    for name in ("out/keep", "out/LLMTRSR"):
        Path(name).mkdir(parents=True)
    with suppress(UserError):
        run(result_dir="out", **options_of)
    assert sorted(path.name for path in Path("out").iterdir()) == ["LLMTRSR", "keep"]
