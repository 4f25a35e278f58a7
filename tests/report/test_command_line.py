"""Runs that were made apart become one comparison."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from recbole_llmtrsr.evaluation.per_history import per_history, write_per_history
from recbole_llmtrsr.report.__main__ import main


@pytest.fixture
def folders(comparison, tmp_path) -> list[str]:
    """A run of each of two models, on the same three histories."""
    found = []
    for name, seed, ranks in (("LLMTRSR", 1, [1.0, 2.0, 1.0]), ("Pop", 1, [2.0, 2.0, 3.0])):
        folder = tmp_path / "runs" / name / "seed-1"
        folder.mkdir(parents=True)
        result = {**comparison.rows[0].results[0], "label": name, "model": name, "seed": seed}
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        values = {
            "recall@1": [float(rank <= 1) for rank in ranks],
            "recall@2": [float(rank <= 2) for rank in ranks],
            "mrr@2": [1 / rank if rank <= 2 else 0.0 for rank in ranks],
        }
        features = {"target_popularity": [0, 4, 30]}
        table = per_history(["u1", "u2", "u3"], [3, 8, 70], ["a", "b", "c"], values, ranks, [3] * 3, [1] * 3, features)
        write_per_history(folder / "per_history.csv", table)
        found.append(str(tmp_path / "runs" / name))
    return found


def test_runs_made_apart_become_tables_and_a_report(folders, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert main([*folders, f"--out={out}", "--n_resamples=100"]) == 0
    tables = {f"comparison.{form}" for form in ("csv", "json", "md", "tex")}
    assert {path.name for path in out.iterdir()} == {*tables, "report.html"}
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "LLMTRSR leads with mrr@2" in " ".join(report.replace("<wbr>", "").split())
    assert "0.8333" in report  # 1, 1/2 and 1 on average
    assert "0.8333" in (out / "comparison.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert re.search(r"^LLMTRSR +0\.", printed, flags=re.MULTILINE)
    assert printed.endswith(f"report: {out / 'report.html'}\n")


def test_the_order_of_the_folders_is_that_of_the_rows(folders, tmp_path):
    main([*reversed(folders), f"--out={tmp_path / 'out'}", "--n_resamples=100"])
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))["rows"]
    assert [row["label"] for row in rows] == ["Pop", "LLMTRSR"]


def labels_and_values(out: Path) -> list[tuple[str, float]]:
    rows = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["rows"]
    return [(row["label"], row["metrics"]["recall@1"]["mean"]) for row in rows]


def test_runs_of_one_model_with_other_settings_are_joined_under_names_of_their_own(folders, tmp_path):
    ours, pop = folders
    out = tmp_path / "out"
    assert main([f"Pop@before={ours}", pop, f"--out={out}", "--n_resamples=100"]) == 0
    assert labels_and_values(out) == [("Pop@before", pytest.approx(2 / 3)), ("Pop", 0.0)]
    report = (out / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert "Pop@before leads with mrr@2" in " ".join(report.split())


def test_a_folder_with_an_equals_sign_is_a_folder(folders, tmp_path, capsys):
    ours, pop = folders
    named = Path(ours).rename(tmp_path / "runs" / "lr=0.1")
    main([str(named), pop, f"--out={tmp_path / 'out'}", "--n_resamples=100"])
    assert [label for label, _ in labels_and_values(tmp_path / "out")] == ["LLMTRSR", "Pop"]
    missing = tmp_path / "lr=0.2"
    assert main([str(missing), f"--out={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {missing} holds no finished run")


def test_several_models_do_not_get_one_name(folders, tmp_path, capsys):
    runs = tmp_path / "runs"
    assert main([f"other={runs}", f"--out={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {runs} holds runs of LLMTRSR, Pop, which cannot all be named other: name the folder of one\n"
    )


def test_the_same_runs_give_the_same_report(folders, tmp_path):
    for name in ("first", "second"):
        main([*folders, f"--out={tmp_path / name}", "--n_resamples=100"])
    assert (tmp_path / "first" / "report.html").read_bytes() == (tmp_path / "second" / "report.html").read_bytes()


def test_a_folder_without_runs_is_told(tmp_path, capsys):
    assert main([str(tmp_path), f"--out={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds no finished run")


def test_a_place_that_cannot_be_written_is_told(folders, tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.touch()
    assert main([*folders, f"--out={taken}", "--n_resamples=100"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: the comparison cannot be written to {taken} (")
    assert "set --out to a writable folder" in error


@pytest.mark.parametrize("given", ["99", "0", "-1", "1e3", "many"])
def test_too_few_resamples_are_refused(folders, tmp_path, capsys, given):
    with pytest.raises(SystemExit) as stopped:
        main([*folders, f"--out={tmp_path / 'out'}", f"--n_resamples={given}"])
    assert stopped.value.code == 2
    said = f"argument --n_resamples: must be a whole number >= 100, got '{given}': leave it out for 2000"
    assert said in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
