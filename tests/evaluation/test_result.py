from __future__ import annotations

import json
import math
import re
import subprocess
from pathlib import Path

import pytest

import recbole_llmtrsr
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.result import git_commit, make_result_dir, versions, write_json, write_text


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


def test_text_is_written_as_it_is(tmp_path):
    write_text(tmp_path / "t.md", "Ærø\n± 1\n")
    assert (tmp_path / "t.md").read_bytes() == "Ærø\n± 1\n".encode()


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
