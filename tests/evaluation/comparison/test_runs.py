from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import load_run, load_runs
from recbole_llmtrsr.evaluation.per_history import per_history, write_per_history
from recbole_llmtrsr.evaluation.result import write_json

RESULT = {"label": "A", "seed": 1, "dataset": "tiny", "test_result": {"mrr@3": 0.5}}


def table(value: float) -> pd.DataFrame:
    return per_history(["007"], [5], ["i1"], {"mrr@3": [value]}, [1.0], [3], [1], {})


def write_run(
    folder: Path, label: str, seed: int, value: float | None, ablations: dict[str, float] | None = None
) -> None:
    write_json(folder / "result.json", {**RESULT, "label": label, "seed": seed, "test_result": {"mrr@3": value}})
    if value is not None:
        write_per_history(folder / "per_history.csv", table(value))
    for name, changed in (ablations or {}).items():
        write_per_history(folder / "ablations" / f"{name}.csv", table(changed))


def test_runs_are_found_at_any_depth_in_the_order_of_labels_and_seeds(tmp_path):
    write_run(tmp_path / "SASRec" / "seed-10", "SASRec", 10, 0.1)
    write_run(tmp_path / "SASRec" / "seed-9", "SASRec", 9, 0.2)
    write_run(tmp_path / "LLMTRSR", "LLMTRSR", 1, 0.3, {"another user's summary": 0.4})
    runs = load_runs(tmp_path)
    assert [str(run) for run in runs] == ["LLMTRSR (seed 1)", "SASRec (seed 9)", "SASRec (seed 10)"]
    assert runs[0].result["test_result"] == {"mrr@3": 0.3}
    assert [run.per_history["mrr@3"].tolist() for run in runs] == [[0.3], [0.2], [0.1]]
    assert runs[0].per_history["user_id"].tolist() == ["007"]
    assert {name: ablation["mrr@3"].tolist() for name, ablation in runs[0].ablations.items()} == {
        "another user's summary": [0.4]
    }


def test_ablations_come_in_the_order_in_which_they_were_made(tmp_path):
    made = ["shuffled history", "no summary", "another user's summary"]
    write_run(tmp_path, "LLMTRSR", 1, 0.3, {name: 0.1 for name in [*made, "of elsewhere"]})
    result = json.loads((tmp_path / "result.json").read_text())
    write_json(tmp_path / "result.json", {**result, "ablations": {"changed": {name: {} for name in made}}})
    for run in (*load_runs(tmp_path), load_run(tmp_path, {})):
        assert list(run.ablations) == [*made, "of elsewhere"]


def test_several_folders_are_read_in_their_order(tmp_path):
    write_run(tmp_path / "one", "Pop", 1, 0.1)
    write_run(tmp_path / "two", "LLMTRSR", 1, 0.3)
    assert [run.label for run in load_runs([tmp_path / "one", tmp_path / "two"])] == ["Pop", "LLMTRSR"]


def test_a_run_that_ranked_nothing_has_no_table(tmp_path):
    write_run(tmp_path, "Pop", 1, None)
    (run,) = load_runs(tmp_path)
    assert run.per_history is None


def test_a_run_that_stopped_with_its_summaries_is_no_finished_run(tmp_path):
    write_run(tmp_path / "a", "Pop", 1, 0.1)
    write_json(tmp_path / "b" / "result.json", {"label": "LLMTRSR", "dataset": "tiny", "summaries": {}})
    assert [run.label for run in load_runs(tmp_path)] == ["Pop"]
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'b'} holds no finished run")):
        load_runs([tmp_path / "a", tmp_path / "b"])


def test_files_that_are_no_results_are_told(tmp_path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match="result.json cannot be read as the result of a run"):
        load_runs(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"model": "Pop", "dataset": "tiny", "test_result": {}}))
    with pytest.raises(UserError, match="lacks label, seed: it was written by an older version"):
        load_runs(tmp_path)
    with pytest.raises(UserError, match="nowhere holds no finished run"):
        load_runs(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["A\n\\input{x}%", "A\tb", "", " ", "A\x85", "A\u2028", "\ud800", "A\0"])
@pytest.mark.parametrize("place", ["label", "dataset", "metric"])
def test_names_that_are_no_line_of_text_are_refused_where_they_are_read(tmp_path, name, place):
    changed = {"test_result": {name: 0.5}} if place == "metric" else {place: name}
    (tmp_path / "result.json").write_text(json.dumps({**RESULT, **changed}))
    with pytest.raises(UserError, match=r"result\.json: the name .* must be one line of text"):
        load_runs(tmp_path)


@pytest.mark.parametrize("seed", ["1\n\\input{x}", 1.5, True, [1]])
def test_a_seed_that_is_no_number_is_refused(tmp_path, seed):
    (tmp_path / "result.json").write_text(json.dumps({**RESULT, "seed": seed}))
    with pytest.raises(UserError, match="seed must be a whole number or null"):
        load_runs(tmp_path)
