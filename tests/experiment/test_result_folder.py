"""What a command makes in its result folder goes again where it stays empty, and nothing else does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.result_folder import MadeFolders, check_folders, remove_unfinished, result_folder
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.runtime.atomic_write import draft_name


def test_only_folders_that_were_made_and_stay_empty_are_removed(tmp_path: Path) -> None:
    for name in ("users", "Pop"):
        (tmp_path / name).mkdir()
    folders = MadeFolders()
    for name in ("Pop", "Pop/seed-1", "SASRec/seed-1", "SASRec/seed-2"):
        folders.make(tmp_path / name)
    (tmp_path / "SASRec" / "seed-2" / "result.json").touch()
    folders.remove_empty()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()) == [
        "Pop",
        "SASRec",
        "SASRec/seed-2",
        "users",
    ]


def test_drafts_of_the_command_itself_are_removed_and_those_of_another_one_below_stay(tmp_path: Path) -> None:
    run, other = tmp_path / "Pop" / "seed-1", tmp_path / "other"
    gone = [draft_name(tmp_path / "comparison.md"), draft_name(run / "result.json")]
    gone += [draft_name(run / "ablations" / "x.csv"), draft_name(run / "also" / "pop20" / "result.json")]
    stay = [draft_name(other / "result.json"), draft_name(tmp_path / "SASRec" / "result.json"), run / "notes.tmp"]
    for path in (*gone, *stay, tmp_path / "run.json", tmp_path / "SASRec" / "run.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_unfinished(tmp_path, [run, tmp_path / "SASRec"])  # whose folder another command has as its own
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stay)


@pytest.mark.parametrize("name", ["comparison.md", "comparison.csv", "report.html", "per_history.csv", "a/result.json"])
def test_results_of_others_are_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    settings = Settings.from_options({"result_dir": str(tmp_path)})
    with pytest.raises(UserError, match=f"holds results already .*{name}"):
        result_folder(settings, ["Pop"], "toy", {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("log", "'log' is a file, but RecBole writes to the folder log: remove or rename it, or run in another"),
        ("log/Pop", "'log/Pop' is a file, but RecBole writes"),
        ("log_tensorboard", "'log_tensorboard' is a file, but RecBole writes"),
        ("saved", "'saved' is a file, but checkpoint_dir wants the folder saved: rename or mend it, or set checkpoint"),
        ("saved/candidates", "'saved/candidates' is a file, but candidate_dir wants"),
        ("saved/vectors", "'saved/vectors' is a file, but vector_dir wants"),
        ("stores", "'stores' is a file, but summary_store wants"),
        ("results", "'results' is a file, but result_dir wants the folder results/runs: rename or mend it, or set"),
    ],
)
def test_a_file_where_a_folder_is_wanted_is_refused_before_any_work(
    make_config: Callable[..., Config], name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**make_config("Pop").external_config_dict, "summary_store": "stores/x.sqlite"}
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("mine")
    monkeypatch.setattr("recbole_llmtrsr.quick_start.run_pipeline", lambda *_: pytest.fail("a run began"))
    with pytest.raises(UserError, match=message):
        compare(["Pop"], "tiny", config_dict=options)
    assert Path(name).read_text() == "mine"


def test_a_link_to_nothing_and_a_folder_of_others_are_refused(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("Pop")
    check_folders([config])
    Path("log").symlink_to("nowhere")
    with pytest.raises(UserError, match="'log' is a link to nothing"):
        check_folders([config])
    Path("log").unlink()
    Path("saved/candidates").mkdir(parents=True)
    Path("saved/vectors").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).parts[:1] != ("saved",))
    with pytest.raises(UserError) as refused:
        check_folders([config])
    assert refused.value.faults == (
        "the folder 'saved' cannot be written, but checkpoint_dir wants the folder saved: rename or mend it, or set"
        " checkpoint_dir to another place",
    )
