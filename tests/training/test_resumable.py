"""A run that is stopped behind saved states, again and again, ends as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.training.state_folder import StateFolder


class Stopped(BaseException):
    """As abrupt as a kill can be within one process."""


def count_states(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[Any]:
    """A list that fills with the states of a run, which is stopped behind so many."""
    save, saved = StateFolder.save, []

    def save_and_stop(self: StateFolder, state: Any) -> bool:
        done = save(self, state)
        saved.append(state)
        if len(saved) == stop_after:
            raise Stopped
        return done

    monkeypatch.setattr(StateFolder, "save", save_and_stop)
    return saved


CASES = {
    "LLMTRSR": ("LLMTRSR", {}, 24),
    "accumulated": ("LLMTRSR", {"gradient_accumulation_steps": 2, "targets_per_prompt": 2, "also_test": ["pop2"]}, 12),
    "dropout and draws of its own": (
        "HLLM",
        {"targets_per_prompt": 2, "train_batch_size": 8, "n_shared_negatives": 2},
        10,
    ),
    "RecBole's, with dropout": ("SASRec", {"train_batch_size": 8}, 6),
    "RecBole's, with negatives": ("GRU4Rec", {"loss_type": "BPR", "train_batch_size": 8}, 6),
    "without validation": ("LLMTRSR", {"eval_args": {"split": {"RS": [0.9, 0.0, 0.1]}, "mode": "uni3"}}, 10),
    "weights in no state_dict": ("Pop", {}, 3),
    "steps counted in a plain attribute": (
        "MultiVAE",
        {"train_batch_size": 8, "total_anneal_steps": 10, "mlp_hidden_size": [8], "latent_dimension": 4},
        3,
    ),
    "a negative is chosen by the model": (
        "LLMTRSR",
        {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": 2}},
        6,
    ),
}


QUICK = ("LLMTRSR", "weights in no state_dict")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES]
)
def test_a_run_stopped_behind_some_states_ends_like_one_that_was_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    outcome: Callable[[Path], Any],
    debris: Callable[[Path], Any],
    case: str,
) -> None:
    model, own, at_least = CASES[case]

    def run(folder: str, **more: Any) -> None:
        places = {"result_dir": folder, "summary_store": f"{folder}.sqlite"}
        compare([model], "toy", config_dict={**options, **own, **places, **more})

    run("undisturbed", checkpoint_minutes=None)
    expected = outcome(tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        states = count_states(patched)
        run("not-stopped", checkpoint_minutes=0)
    assert outcome(tmp_path / "not-stopped") == expected
    n = len(states)
    assert n >= at_least
    before = 0
    for place in sorted({1, 2, n // 3, 2 * n // 3, n}):
        with monkeypatch.context() as patched, pytest.raises(Stopped):
            count_states(patched, stop_after=place - before)
            run("stopped", checkpoint_minutes=0, resume="auto")
        before = place
    run("stopped", checkpoint_minutes=0, resume="auto")
    assert outcome(tmp_path / "stopped") == expected
    assert debris(tmp_path / "stopped") == []
