"""What a run reports of its cost, end to end on a tiny data set."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.cost import cost_line
from recbole_llmtrsr.quick_start import compare

TINY = {**toy.TINY, "epochs": 2, "summary": "none", "state": "INFO", "result_dir": "out"}
N_USERS, N_EVENTS = 8, 6


@pytest.fixture(autouse=True)
def toy_in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy.write_atomic(tmp_path / "data" / "toy", toy.toy_events(*[N_EVENTS] * N_USERS))


def test_a_run_reports_what_each_stage_cost(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        compare(["LLMTRSR"], "toy", config_dict=TINY)
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    cost = result["cost"]
    training, validation, evaluation = cost["training"], cost["validation"], cost["evaluation"]

    assert cost["number_format"] == "float32"
    assert cost["operations_not_counted"] is None
    assert (training["passes"], validation["passes"], evaluation["passes"]) == (2, 2, 1)
    # Every event but the first and the last two is a target of training, with two negatives, in both epochs.
    assert (training["histories"], training["candidates"]) == (2 * N_USERS * (N_EVENTS - 3), 3 * training["histories"])
    assert (validation["histories"], validation["candidates"]) == (2 * N_USERS, 4 * 2 * N_USERS)
    assert (evaluation["histories"], evaluation["candidates"]) == (N_USERS, 4 * N_USERS)
    assert training["tokens"] == result["tokens"]["train"]
    assert validation["tokens"] + evaluation["tokens"] == result["tokens"]["evaluation"]
    for stage in (training, validation, evaluation):
        assert stage["tokens"] > 0 < stage["operations"]
        assert stage["tokens_per_second"] * stage["seconds"] == pytest.approx(stage["tokens"])
        assert stage["flops_per_second"] * stage["seconds"] == pytest.approx(stage["operations"])
        assert stage["share_of_peak"] == stage["flops_per_second"] / cost["measured_peak_flops_per_second"] > 0
        assert 0.05 < stage["peak_memory_gib"] < 100
    # The builtin backbone trains all its weights, the two rows of its head among them: three forward passes a row.
    assert training["operations"] / training["tokens"] > 2.5 * evaluation["operations"] / evaluation["tokens"]
    assert evaluation["seconds_per_1000_users"] == pytest.approx(1000 * evaluation["seconds"] / N_USERS)
    assert training["seconds"] + validation["seconds"] <= result["seconds"]["training"] + 1e-3
    assert any(record.message.endswith(cost_line(cost)) for record in caplog.records)


def test_models_of_recbole_report_time_and_memory(tmp_path):
    (sasrec, pop), folder = compare(["SASRec", "Pop"], "toy", config_dict={**TINY, "state": "WARNING"})
    assert sasrec["cost"]["training"]["passes"] == 2
    assert pop["cost"]["training"]["passes"] == 1  # RecBole gives models that count one epoch
    for result in (sasrec, pop):
        cost = result["cost"]
        assert cost["training"]["seconds"] > 0 < cost["evaluation"]["peak_memory_gib"]
        assert cost["evaluation"]["seconds_per_1000_users"] == pytest.approx(
            1000 * cost["evaluation"]["seconds"] / N_USERS
        )
        assert cost["evaluation"]["tokens"] is cost["measured_peak_flops_per_second"] is None
    header = (folder / "comparison.md").read_text(encoding="utf-8").splitlines()[2]
    columns = [name.strip() for name in header.split("|")]
    cost = ["training (s)", "s per 1,000 users", "peak memory (GiB; CPU: whole process)"]
    assert columns[-5:-1] == [*cost, "candidates"]


POP = {**TINY, "metrics": ["MRR"], "topk": [3], "valid_metric": "MRR@3", "epochs": 1, "n_resamples": 100}


def test_a_run_leaves_the_output_and_the_log_as_they_were():
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    compare(["Pop"], "toy", config_dict=POP)
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers)) == before


class Wandb(SimpleNamespace):
    """Keeps an account of what is sent to which run, as the package does: one run at a time."""

    def __init__(self) -> None:
        super().__init__(run=None, sent=[], define_metric=lambda *_, **__: None)

    def init(self, **told: Any) -> None:
        assert self.run is None
        self.run = SimpleNamespace(name=told["name"], summary={})
        self.sent.append(("begins", told["name"], told["project"], told["config"]["seed"]))

    def log(self, metrics: Any, **_: Any) -> None:
        self.sent.append(("is told", self.run.name))

    def finish(self) -> None:
        self.sent.append(("ends", self.run.name, sorted(self.run.summary)))
        self.run = None


@pytest.fixture
def wandb(monkeypatch) -> Wandb:
    stub = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    monkeypatch.setattr("recbole_llmtrsr.config.recbole_options._is_installed", lambda name: True)
    return stub


def test_every_model_and_seed_has_a_run_of_weights_and_biases(wandb):
    compare(["Pop", "BPR"], "toy", config_dict={**POP, "seeds": [1, 2], "log_wandb": True, "wandb_project": "ours"})
    begun = [event for event in wandb.sent if event[0] == "begins"]
    assert begun == [("begins", f"{model}-seed-{seed}", "ours", seed) for model in ("Pop", "BPR") for seed in (1, 2)]
    ends = [place for place, event in enumerate(wandb.sent) if event[0] == "ends"]
    for begin, end in zip([0, *(place + 1 for place in ends)], ends):
        assert {event[1] for event in wandb.sent[begin : end + 1]} == {wandb.sent[begin][1]}
        assert wandb.sent[end][2] == ["eval/mrr@3"]
    assert wandb.run is None


def test_a_run_of_weights_and_biases_that_was_there_before_stays(wandb):
    wandb.init(project="theirs", name="sweep", config={"seed": 0})
    compare(["Pop"], "toy", config_dict={**POP, "log_wandb": True})
    assert wandb.run.name == "sweep"
    assert {event[0] for event in wandb.sent} == {"begins", "is told"}


def test_a_run_shows_its_data_and_epochs_and_its_log_file_has_all_the_rest(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    compare(["LLMTRSR"], "toy", config_dict={**TINY, "state": "INFO", "epochs": 2})
    shown = capsys.readouterr().err.splitlines()
    (log,) = Path("log/LLMTRSR").iterdir()
    names = [line.split()[0] for line in shown if line.startswith("  ") and line[2] != " "]
    assert names == [
        "data",
        "split",
        "candidates",
        "options",
        "log",
        "weights",
        "device",
        "epoch",
        "epoch",
    ]
    assert shown[1] == "LLMTRSR on toy, seed 2020"
    assert f"  log          {log}" in shown
    assert max(map(len, shown)) <= 80
    assert len(shown) < 30
    kept = log.read_text(encoding="utf-8")
    assert "General Hyper Parameters" in kept
    assert "(lm): " in kept
    assert "\x1b" not in kept
    assert "OrderedDict" not in kept


def test_a_validation_metric_that_is_not_a_number_is_named(monkeypatch):
    monkeypatch.setattr("recbole.trainer.Trainer._valid_epoch", lambda *_, **__: (float("nan"), {}))
    with pytest.raises(UserError, match=r"the validation metric mrr@\d+ is NaN after epoch 1, so it cannot select"):
        compare(["Pop"], "toy", config_dict=POP)
