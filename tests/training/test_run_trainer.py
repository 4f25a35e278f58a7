"""The trainer of a run: its host's epochs and validations, measured, with a hook around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from recbole.trainer import Trainer

from recbole_llmtrsr.training import run_trainer as module
from recbole_llmtrsr.training.run_trainer import run_trainer

CONFIG = type("Options", (dict,), {"label": "SASRec@small"})(seed=7)


class Host:
    """Trains two epochs with a validation each, as RecBole's trainers do."""

    def __init__(self, config: Any, model: Any) -> None:
        self.saved_model_file = "saved/model.pth"
        self.done = model.done

    def fit(self) -> list[str]:
        return [told for epoch in range(2) for told in (self._train_epoch("rows", epoch), self._valid_epoch(valid="v"))]

    def _train_epoch(self, train_data: str, epoch_idx: int, show_progress: bool = False) -> str:
        self.done.append("trains")
        self._after_step(epoch_idx, 3, 0.5)
        return f"trained {train_data} {epoch_idx}"

    def _after_step(self, epoch: int, n_batches: int, loss: float) -> None:
        self.done.append("the host's own step")

    def _valid_epoch(self, valid: str) -> str:
        return f"validated {valid}"

    def _train_at_once(self, train: str, valid: str) -> tuple[str, str]:
        return train, valid


class Hook:
    def __init__(self, done: list[str]) -> None:
        self._done = done

    def train_epoch(self, epoch: int, run: Callable[[], Any]) -> Any:
        self._done.append(f"before {epoch}")
        return run() if epoch else "from elsewhere"

    def after_step(self, epoch: int, n_batches: int, loss: float) -> None:
        self._done.append(f"step {epoch} {n_batches} {loss}")


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "RankingCollector", lambda config, resolution: ("collector", resolution))
    monkeypatch.setattr(module, "ExpectedEvaluator", lambda config: "evaluator")
    done: list[str] = []

    @contextmanager
    def measured(stage: str) -> Iterator[None]:
        done.append(f"{stage} begins")
        yield
        done.append(f"{stage} ends")

    return run_trainer(Host)(CONFIG, SimpleNamespace(done=done, score_resolution=0.5), measured)


def test_epochs_and_validations_are_measured_and_give_what_the_host_gives(trainer):
    assert trainer.fit() == ["trained rows 0", "validated v", "trained rows 1", "validated v"]
    assert (
        trainer.done
        == [
            *("training begins", "trains", "the host's own step", "training ends"),
            *("validation begins", "validation ends"),
        ]
        * 2
    )


def test_training_at_once_is_measured_as_decision_trees_do_it(trainer):
    assert trainer._train_at_once("t", "v") == ("t", "v")
    assert trainer.done == ["training begins", "training ends"]


def test_a_hook_stands_around_the_measured_epoch_may_leave_it_out_and_is_told_of_steps(trainer):
    trainer.epoch_hook = Hook(trainer.done)
    assert trainer.fit() == ["from elsewhere", "validated v", "trained rows 1", "validated v"]
    assert [told for told in trainer.done if "validation" not in told] == [
        "before 0",
        "before 1",
        "training begins",
        "trains",
        "the host's own step",
        "step 1 3 0.5",
        "training ends",
    ]


def test_it_ranks_ties_by_expectation_and_has_a_checkpoint_of_its_own(trainer):
    assert (trainer.eval_collector, trainer.evaluator) == (("collector", 0.5), "evaluator")
    assert trainer.saved_model_file.startswith("saved/SASRec@small-seed-7-")


def test_one_class_is_made_of_a_host_and_has_its_name():
    assert run_trainer(Trainer) is run_trainer(Trainer)
    assert (run_trainer(Trainer).host, run_trainer(Trainer).__name__) == (Trainer, "Trainer")
