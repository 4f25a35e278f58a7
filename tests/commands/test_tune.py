"""``recbole-llmtrsr tune``: a parameter file of RecBole's is read, not run as code, and the best point is printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import toy

import recbole_llmtrsr.__main__ as runner
from recbole_llmtrsr.commands import tune
from recbole_llmtrsr.commands.tune import main, read_space
from recbole_llmtrsr.errors import UserError

TINY = [f"--{name}={value}" for name, value in toy.TINY.items()]


def written(folder: Path, text: str) -> Path:
    file = folder / "space.txt"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_parameter_file_holds_choices_and_ranges(tmp_path: Path) -> None:
    text = "# rates\nlearning_rate loguniform -8,0\n\nn_layers choice [1, 2]\nhidden_size quniform 16,64,16\n"
    text += "LLMTRSR.summary choice ['none','recurrent']\ndrop uniform 0,0.5\n"
    assert read_space(written(tmp_path, text)) == {
        "loguniform": {"learning_rate": [-8.0, 0.0]},
        "choice": {"n_layers": [1, 2], "LLMTRSR.summary": ["none", "recurrent"]},
        "quniform": {"hidden_size": [16.0, 64.0, 16.0]},
        "uniform": {"drop": [0.0, 0.5]},
    }


def test_all_lines_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    text = "a choice 3\nb choice __import__('os').abort()\nc uniform 2,1\nd normal 0,1\ne\nf choice [1]\nf choice [2]\n"
    with pytest.raises(UserError) as fault:
        read_space(written(tmp_path, text))
    numbers = [told.split("line ")[1].split(":")[0] for told in fault.value.faults]
    assert numbers == ["1", "2", "3", "4", "5", "7"]
    assert "'a choice 3' cannot be read: each line must be 'name choice [value, ...]'" in fault.value.faults[0]
    with pytest.raises(UserError, match="names no option"):
        read_space(written(tmp_path, "# nothing\n"))


def test_the_best_point_is_told_with_the_command_that_runs_it(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[dict[str, object]] = []

    def objective(options: dict[str, object], files: list[str]) -> dict[str, object]:
        tried.append(options)
        score = {0.1: 0.5, 0.01: 0.75}[float(str(options["learning_rate"]))]
        of_all = {key: {"mrr@10": score} for key in ("best_valid_result", "test_result")}
        return {"model": "SASRec", "best_valid_score": score, "valid_score_bigger": True, **of_all}

    monkeypatch.setattr("recbole_llmtrsr.quick_start.objective_function", objective)
    file = written(home, "learning_rate choice [0.1,0.01]\n")
    flags = [f"--params_file={file}", "--model=SASRec", "--dataset=toy", "--epochs=3", "--eval_args={mode: uni3}"]
    assert main([*flags, "--out=tuned.txt"]) == 0
    fixed = {"model": "SASRec", "dataset": "toy", "epochs": 3, "eval_args": {"mode": "uni3"}}
    assert sorted(tried, key=str) == [{**fixed, "learning_rate": 0.01}, {**fixed, "learning_rate": 0.1}]
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert lines[1:4] == ["validation: mrr@10 0.7500", "test: mrr@10 0.7500", "all trials: tuned.txt"]
    assert lines[0] == "best of 2 trials: --learning_rate=0.01"
    command = shlex.split(lines[4].removeprefix("next: "))
    assert command[-5:] == [
        "--model=SASRec",
        "--dataset=toy",
        "--epochs=3",
        "--eval_args={mode: uni3}",
        "--learning_rate=0.01",
    ]
    told = (home / "tuned.txt").read_text(encoding="utf-8")
    assert told.count("Valid result:") == 2
    assert "learning_rate:0.01" in told


def test_the_trials_are_runs_and_the_command_told_runs_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(home, "learning_rate choice [0.1,0.01]\nPop.epochs choice [1]\n")
    assert main([f"--params_file={file}", "--model=BPR", "--dataset=toy", *TINY]) == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ")
    assert len(list((home / "results" / "runs").iterdir())) == 2
    assert runner.main([flag for flag in shlex.split(command) if flag.startswith("--")]) == 0
    assert len(list((home / "results" / "runs").iterdir())) == 3


REFUSED = {
    "misspelt option": (["--epocs=3"], "option 'epocs' does not exist; did you mean 'epochs'?"),
    "misspelt searched option": (
        ["--params_file=misspelt.txt"],
        "option 'epocs' does not exist; did you mean 'epochs'?",
    ),
    "spaces": (["--epochs", "3"], "argument '--epochs' is not understood"),
    "set and searched": (["--learning_rate=1"], "learning_rate: set on the command line, and searched in space.txt"),
    "no file": (["--params_file=none.txt"], "--params_file=none.txt cannot be read"),
    "ranges": (["--params_file=ranges.txt"], "--algo=exhaustive tries every value, and ranges.txt holds ranges"),
    "a folder": (["--out=data"], "--out=data cannot be written (Is a directory)"),
}


@pytest.mark.parametrize(("flags", "message"), REFUSED.values(), ids=REFUSED)
def test_faults_are_told_before_the_first_trial(
    flags: list[str], message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(home, "learning_rate choice [0.1,0.01]\n")
    (home / "misspelt.txt").write_text("SASRec.epocs choice [1,2]\n")
    (home / "ranges.txt").write_text("drop uniform 0,1\n")
    given = ["--params_file=space.txt", "--model=Pop", "--dataset=toy", *TINY]
    assert main([*given, *flags]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "running parameters" not in printed.out


def test_a_missing_hyperopt_is_told_with_its_extra(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    written(home, "learning_rate choice [0.1]\n")
    assert main(["--params_file=space.txt", "--model=Pop"]) == 2
    assert capsys.readouterr().err == "error: tuning needs the package hyperopt: pip install '.[tune]'\n"


def test_a_dry_run_cannot_be_tuned(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(home, "learning_rate choice [0.1]\n")
    given = ["--params_file=space.txt", "--model=LLMTRSR", "--dataset=toy", *TINY, "--dry_run=True"]
    assert main(given) == 2
    assert (
        "a trial ended without a validation score: leave out summarize_only, dry_run and scorer"
        in capsys.readouterr().err
    )
