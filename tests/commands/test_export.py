"""``recbole-llmtrsr export``: the table holds what a Recommender recommends, and appears whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import toy

from recbole_llmtrsr.commands.export import main
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.recommend import Recommender

USERS = ["u0", "u1", "u2", "u3", "u4", "u5"]


@pytest.fixture(scope="module")
def run_folder(home: Path) -> str:
    """A run of LLMTRSR without a retriever."""
    _, folder = compare(["LLMTRSR"], "toy", config_dict={**toy.TINY, "result_dir": "out"})
    return str(folder)


@pytest.fixture(scope="module")
def recommender(run_folder: str) -> Recommender:
    return Recommender.load(run_folder)


def expected(recommender: Recommender, histories: dict[str, Any], k: int) -> list[tuple[str, int, str, str]]:
    """User, rank, item and text of every row."""
    return [
        (user, rank, str(one.item), one.text)
        for user, history in histories.items()
        for rank, one in enumerate(recommender.recommend(history, k).items, start=1)
    ]


def read_csv(file: Path) -> list[tuple[str, int, str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row["user"], int(row["rank"]), row["item"], row["text"]) for row in csv.DictReader(lines)]


def test_every_user_of_the_test_gets_the_items_that_a_recommender_gives(
    run_folder: str, recommender: Recommender, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "recommendations.csv"
    assert main([f"--run={run_folder}", f"--out={out}", "--k=3"]) == 0
    assert capsys.readouterr().out == f"{out}: recommendations for 6 users\n"
    assert read_csv(out) == expected(recommender, {user: user for user in USERS}, 3)
    assert [path.name for path in out.parent.iterdir()] == ["recommendations.csv"]


def test_whole_histories_leave_out_what_was_chosen_last(
    run_folder: str, recommender: Recommender, tmp_path: Path
) -> None:
    out, users = tmp_path / "r.csv", tmp_path / "users.txt"
    users.write_text("u4\nu1\n")
    assert main([f"--run={run_folder}", f"--out={out}", f"--users={users}", "--history=whole"]) == 0
    whole = {user: recommender.history(user, whole=True) for user in ("u4", "u1")}
    assert read_csv(out) == expected(recommender, whole, 10)
    assert whole["u4"][-1] not in [item for user, _, item, _ in read_csv(out) if user == "u4"]


def test_all_three_forms_hold_the_same_rows(run_folder: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for form in ("csv", "jsonl", "parquet"):
        assert main([f"--run={run_folder}", f"--out={tmp_path / f'r.{form}'}", "--k=2"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert parquet.read_table(tmp_path / "r.parquet").to_pylist() == rows
    assert [(row["user"], row["rank"], row["item"], row["text"]) for row in rows] == read_csv(tmp_path / "r.csv")
    assert list(rows[0]) == ["user", "rank", "item", "score", "text"]
    assert len(rows) == 12


def test_users_with_fewer_items_than_asked_for_are_counted(
    run_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--run={run_folder}", f"--out={tmp_path / 'r.csv'}", "--k=50"]) == 0
    assert "6 of 6 users have fewer than 50 items" in capsys.readouterr().err


REFUSED = {
    "unknown form": (["--out=r.xls"], "--out=r.xls must end in one of .csv, .jsonl, .parquet"),
    "file below a file": (["--out=taken/r.csv"], "--out=taken/r.csv cannot be written (File exists)"),
    "folder": (["--out=folder.csv"], "--out=folder.csv cannot be written (Is a directory)"),
    "no file of users": (["--users=none.txt"], "--users=none.txt cannot be read"),
    "no user": (["--users=empty.txt"], "--users=empty.txt names no user"),
    "a user twice": (["--users=twice.txt"], "--users=twice.txt names user 'u1' twice: name every user once"),
    "unknown users": (["--users=unknown.txt"], "no user 'x1' among the 6 users of the data set"),
    "too many prompts": (["--most_prompts=12"], "or load with most_prompts=13"),
    "no run": (["--run=data"], "data holds no result.json, so it is no run"),
    "other scores": (["--option=seed=3"], "options seed would change what the run's scores mean"),
}


@pytest.mark.parametrize(("flags", "message"), REFUSED.values(), ids=REFUSED)
def test_faults_are_told_before_anything_is_scored_or_written(
    flags: list[str], message: str, run_folder: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "taken").touch()
    (home / "folder.csv").mkdir(exist_ok=True)
    for name, text in {"empty": "\n", "twice": "u1\nu2\nu1\n", "unknown": "u1\nx1\nx2\n"}.items():
        (home / f"{name}.txt").write_text(text)
    assert main([f"--run={run_folder}", "--out=r.csv", *flags]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in errors[0]
    assert len(errors) == (2 if message.startswith("no user 'x1'") else 1)
    assert not (home / "r.csv").exists()
