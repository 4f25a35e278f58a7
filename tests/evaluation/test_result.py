from __future__ import annotations

import json
import math
import re
import subprocess
from pathlib import Path

import pytest

import recbole_llmtrsr
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.result import (
    comparison_table,
    git_commit,
    make_result_dir,
    versions,
    write_comparison,
    write_json,
)


def costs(seconds_per_1000_users: float | None, *peaks: float | None) -> dict:
    stages = zip(("training", "validation", "evaluation"), peaks)
    rate = {"seconds_per_1000_users": seconds_per_1000_users}
    return {name: {"peak_memory_gib": peak, **(rate if name == "evaluation" else {})} for name, peak in stages}


def result(model: str, test: dict[str, float] | None, **changes) -> dict:
    return {
        "model": model,
        "dataset": "tiny",
        "test_result": test,
        "epochs_trained": 2,
        "seconds": {"training": 12.6},
        "cost": costs(61.25, 0.5, 1.254, 0.75),
        "n_test": 4,
        "candidates": {"test": {"hash": "0123456789abcdef"}},
        "options": {"seed": 7},
        **changes,
    }


TABLE = """\
tiny, test, 4 targets, seed 7

| model | recall@3 | mrr@3 | epochs | training (s) | s per 1,000 users | peak memory (GiB) | candidates |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| LLMTRSR | 0.5000 | 0.1235 | 2 | 13 | 61.2 | 1.25 | 0123456789ab |
| Pop | 1.0000 | 0.0000 | 1 | 0 | - | - | all items |
"""


def test_a_table_has_a_row_per_model_in_the_order_they_ran():
    rows = [
        result("LLMTRSR", {"recall@3": 0.5, "mrr@3": 0.12346}),
        result(
            "Pop",
            {"recall@3": 1, "mrr@3": 0},
            candidates={},
            epochs_trained=1,
            seconds={"training": 0.2},
            cost=costs(None, None, None, None),
        ),
    ]
    assert comparison_table(rows) == TABLE


def test_a_run_without_test_rows_has_dashes():
    rows = [result("A", None), result("B", {"mrr@3": 0.5})]
    assert "| A | - | 2 | 13 |" in comparison_table(rows)
    assert "| A | 2 | 13 |" in comparison_table(rows[:1])


def test_a_comparison_is_written_as_table_and_json(tmp_path):
    rows = [result("LLMTRSR", {"recall@3": 0.5, "mrr@3": 0.12346})]
    write_comparison(tmp_path, rows)
    assert (tmp_path / "comparison.md").read_text() == comparison_table(rows)
    assert json.loads((tmp_path / "comparison.json").read_text()) == {"results": rows}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.json", "comparison.md"]


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    write_json(tmp_path / "r.json", {"best": -math.inf, "all": [math.nan, 1.5, (math.inf,)], "text": "Ærø"})
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"best": None, "all": [None, 1.5, [None]], "text": "Ærø"}
    assert "Ærø" in text


def test_writing_replaces_as_a_whole(tmp_path):
    write_json(tmp_path / "r.json", {"n": 1})
    write_json(tmp_path / "r.json", {"n": 2})
    assert json.loads((tmp_path / "r.json").read_text()) == {"n": 2}
    with pytest.raises(TypeError):
        write_json(tmp_path / "r.json", {("not", "a name"): 3})  # type: ignore[dict-item]
    assert json.loads((tmp_path / "r.json").read_text()) == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_named_folder_is_made_with_its_parents_and_may_exist(tmp_path):
    folder = tmp_path / "a" / "b"
    assert make_result_dir(str(folder), ["Pop"], "tiny") == folder
    assert make_result_dir(str(folder), ["Pop"], "tiny") == folder
    assert list(folder.iterdir()) == []


def test_without_a_name_every_run_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [make_result_dir(None, ["Pop", "BPR"], "tiny") for _ in range(4)]
    assert len(set(made)) == 4
    assert all(re.fullmatch(r"results/runs/\d{8}-\d{6}-Pop\+BPR-tiny(-\d)?", path.as_posix()) for path in made)


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_file_in_the_way_is_told_and_kept(tmp_path, folder):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=rf"result folder {tmp_path / folder} cannot be written: .*; set result_dir"):
        make_result_dir(str(tmp_path / folder), ["Pop"], "tiny")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_in_the_way_of_the_default_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("results").write_text("mine")
    with pytest.raises(UserError, match="set result_dir to a writable folder"):
        make_result_dir(None, ["Pop"], "tiny")


def test_versions_name_what_a_result_depends_on():
    found = versions()
    assert found["recbole"] == "1.2.1"
    assert found["recbole_llmtrsr"] == recbole_llmtrsr.__version__
    assert {"python", "torch", "transformers", "numpy", "pandas"} <= set(found)


def test_the_commit_is_that_of_the_checkout_and_tells_of_changes(tmp_path, monkeypatch):
    package = tmp_path / "checkout" / "recbole_llmtrsr"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(recbole_llmtrsr, "__file__", str(package / "__init__.py"))
    assert git_commit() is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(package.parent), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert git_commit() == commit
    (package / "__init__.py").write_text("edited = True\n")
    assert git_commit() == f"{commit}+changes"
