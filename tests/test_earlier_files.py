"""Files that were written before the modules moved to other folders are read as they were: see the fixture's README."""

from __future__ import annotations

import json
import runpy
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr import Recommender
from recbole_llmtrsr.config.renamed_options import current_options
from recbole_llmtrsr.quick_start import compare, load_data_and_model

FIXTURE = Path(__file__).parent / "fixtures" / "before_the_house"
BY_HAND = {"title": "Blue lamp", "maker": "Oslo"}
N_SUMMARIES = 53
CANDIDATES = """\
{"user": "u0", "n_events": 6, "positives": ["i3"], "negatives": ["i1", "i11", "i5", "i6"]}
{"user": "u1", "n_events": 6, "positives": ["i6"], "negatives": ["i12", "i2", "i4", "i9"]}
{"user": "u2", "n_events": 6, "positives": ["i9"], "negatives": ["i0", "i11", "i12", "i4"]}
{"user": "u3", "n_events": 6, "positives": ["i12"], "negatives": ["i2", "i5", "i7", "i8"]}
{"user": "u4", "n_events": 6, "positives": ["i2"], "negatives": ["i0", "i10", "i3", "i5"]}
{"user": "u5", "n_events": 6, "positives": ["i5"], "negatives": ["i0", "i3", "i6", "i8"]}
"""


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def command(monkeypatch: pytest.MonkeyPatch, module: str, *arguments: str) -> None:
    """``python -m <module> <arguments>``."""
    monkeypatch.setattr("sys.argv", [module, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert end.value.code == 0


def go_on(**more: Any) -> dict[str, Any]:
    (result,), _ = compare(["LLMTRSR"], "tiny", ["options.yaml"], more)
    return result


def summaries() -> list[tuple[Any, ...]]:
    store = sqlite3.connect("saved/summaries.sqlite")
    rows = store.execute("SELECT * FROM summaries ORDER BY key").fetchall()
    store.close()
    return rows


def test_a_run_and_its_checkpoint_give_the_scores_of_then():
    recommender = Recommender.load("finished/LLMTRSR")
    ranking = recommender.rank("u3", ["i12", "i3", "i9", BY_HAND])
    assert {one.position: one.score for one in ranking.items} == pytest.approx(
        {0: 0.0954132154583931, 1: 0.10847517102956772, 2: 0.10984630882740021, 3: 0.37948495149612427}, abs=1e-6
    )
    assert ranking.summary == "title: Red 3, Blue 2, lamp 2, rug 2, desk 1, chair 1, Old 1; maker: Oslo 4, Graz 2"
    assert recommender.history("u3") == ["i9", "i4", "i11", "i4", "i12", "i6"]
    assert recommender.rank(["i1", "i2"], ["i5", "i0"]).scores == pytest.approx(
        {"i5": 0.35178959369659424, "i0": 0.39597630500793457}, abs=1e-6
    )


def test_a_run_that_was_resumed_by_todays_version_is_loaded_with_the_checkpoint_of_then():
    """Stopped behind its last checkpoint: result.json has the names of today, the checkpoint those of before."""
    path = Path("finished/LLMTRSR/result.json")
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "options": current_options(result["options"])}))
    assert Recommender.load("finished/LLMTRSR").history("u3") == ["i9", "i4", "i11", "i4", "i12", "i6"]


def test_a_checkpoint_of_one_of_recboles_models_gives_the_scores_of_then():
    from recbole.utils.case_study import full_sort_topk

    (file,) = Path("saved").glob("SASRec-*.pth")
    options = {"eval_args": {"mode": "full"}, "rank_history": "auto"}
    _, model, dataset, _, _, test = load_data_and_model(str(file), options)
    scores, items = full_sort_topk(dataset.token2id("user_id", ["u0", "u3"]), model, test, k=3)
    assert dataset.id2token("item_id", items).tolist() == [["i10", "i12", "i2"], ["i6", "i0", "i5"]]
    assert scores.tolist() == [
        pytest.approx([0.3155781626701355, 0.23857764899730682, 0.22819913923740387], abs=1e-6),
        pytest.approx([0.5652113556861877, 0.3296695947647095, 0.28166431188583374], abs=1e-6),
    ]


def test_every_summary_of_the_store_is_found_and_none_written():
    before = summaries()
    assert len(before) == N_SUMMARIES
    counts = go_on(summarize_only=True, result_dir="again")["summaries"]
    assert (counts["calls"], counts["found"], counts["made"]) == (N_SUMMARIES, N_SUMMARIES, 0)
    assert summaries() == before


def test_a_candidate_file_holds_the_candidates_of_then(monkeypatch, capsys):
    (file,) = Path("saved/candidates").glob("tiny-test-*.npz")
    command(monkeypatch, "recbole_llmtrsr.data.candidates", "export", f"--source={file}", "--out=candidates.jsonl")
    assert Path("candidates.jsonl").read_text() == CANDIDATES
    drawn = json.loads(Path("finished/LLMTRSR/result.json").read_text())["candidates"]["test"]
    assert f"hash {drawn['hash']}" in capsys.readouterr().out


def test_a_stopped_training_goes_on_to_the_end_of_one_that_was_left_alone():
    files = {path: path.read_bytes() for path in Path("saved/candidates").iterdir()}
    whole = json.loads(Path("finished/LLMTRSR/result.json").read_text())
    (state,) = Path("stopped/training-states").iterdir()
    found = go_on(resume="stopped")
    assert not state.exists()
    assert found["test_result"] == whole["test_result"] == {"mrr@3": 0.3056}
    assert found["best_valid_result"] == whole["best_valid_result"]
    # The first epoch's is the state's own; the others depend in their last digits on the processor.
    assert found["train_loss"] == pytest.approx(
        {"0": 1.0988035202026367, "1": 1.2236639261245728, "2": 1.1240090131759644}, abs=1e-4
    )
    assert found["train_loss"]["0"] == whole["train_loss"]["0"]
    assert found["candidates"] == whole["candidates"]
    assert {path: path.read_bytes() for path in Path("saved/candidates").iterdir()} == files
    assert found["summaries"]["made"] == 0
    assert Path("stopped/per_history.csv").read_text() == Path("finished/LLMTRSR/per_history.csv").read_text()


def test_finished_runs_are_read_by_the_command_that_made_them():
    then = {path: path.read_bytes() for path in Path("finished").glob("*/result.json")}
    results, folder = compare(["SASRec", "LLMTRSR"], "tiny", ["options.yaml"], {"resume": "finished"})
    assert folder == Path("finished")
    assert [result["test_result"] for result in results] == [{"mrr@3": 0.4722}, {"mrr@3": 0.3056}]
    assert {path: path.read_bytes() for path in Path("finished").glob("*/result.json")} == then


def test_a_report_tells_of_runs_what_their_comparison_told(monkeypatch):
    command(monkeypatch, "recbole_llmtrsr.report", "finished", "--out=page")
    now, then = (json.loads(Path(folder, "comparison.json").read_text()) for folder in ("page", "finished"))
    assert metrics(now) == metrics(then)
    assert now["random"] == then["random"]
    page = Path("page/report.html").read_text()
    assert "LLMTRSR" in page
    assert "0.3056" in page


def metrics(comparison: dict[str, Any]) -> dict[str, Any]:
    return {row["label"]: row["metrics"] for row in comparison["rows"]}
