"""The trainer of a run: its host's epochs and validations, measured, with a hook around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recbole.trainer import Trainer

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.training import run_trainer as module
from recbole_llmtrsr.training.run_trainer import run_trainer

CONFIG = type("Options", (dict,), {"label": "SASRec@small"})(seed=7, valid_metric="MRR@10", learning_rate=0.01)


class Host:
    """Trains two epochs with a validation each, as RecBole's trainers do."""

    epochs, valid_metric_bigger = 2, True

    def __init__(self, config: Any, model: Any) -> None:
        self.saved_model_file = "saved/model.pth"
        self.config, self.model, self.done = config, model, model.done
        self.best_valid_score = float("-inf")

    def fit(self) -> list[Any]:
        found = []
        for epoch in range(self.epochs):
            found.append(self._train_epoch("rows", epoch))
            score, _ = self._valid_epoch(valid="v")
            self.best_valid_score = max(score, self.best_valid_score)
            found.append(score)
        return found

    def _train_epoch(self, train_data: str, epoch_idx: int, show_progress: bool = False) -> tuple[float, float]:
        self.done.append("trains")
        self._after_step(epoch_idx, 3, 0.5)
        return 1.5, 0.25

    def _after_step(self, epoch: int, n_batches: int, loss: float) -> None:
        self.done.append("the host's own step")

    def _valid_epoch(self, valid: str) -> tuple[float, dict[str, float]]:
        return self.model.scores.pop(0), {}

    def _train_at_once(self, train: str, valid: str) -> tuple[str, str]:
        return train, valid


class Hook:
    def __init__(self, done: list[str]) -> None:
        self._done = done

    def train_epoch(self, epoch: int, run: Callable[[], Any]) -> Any:
        self._done.append(f"before {epoch}")
        return run() if epoch else 2.0

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

    model = SimpleNamespace(done=done, score_resolution=0.5, scores=[0.5, 0.25], parameters=lambda: [torch.zeros(2)])
    return run_trainer(Host)(CONFIG, model, measured)


def test_epochs_and_validations_are_measured_and_give_what_the_host_gives(trainer):
    assert trainer.fit() == [(1.5, 0.25), 0.5, (1.5, 0.25), 0.25]
    assert (
        trainer.done
        == [
            *("training begins", "trains", "the host's own step", "training ends"),
            *("validation begins", "validation ends"),
        ]
        * 2
    )


def test_an_epoch_and_its_validation_are_one_line_of_the_screen(trainer, caplog):
    with caplog.at_level("INFO"):
        trainer.fit()
    assert caplog.messages == [
        "  epoch 1 of 2: loss 1.5000 + 0.2500, 0 s; validation mrr@10 0.5000 (best)",
        "  epoch 2 of 2: loss 1.5000 + 0.2500, 0 s; validation mrr@10 0.2500",
    ]


def test_an_epoch_without_validation_has_its_line_when_training_ends(trainer, caplog):
    trainer._valid_epoch = lambda valid: (0.0, {})
    with caplog.at_level("INFO"):
        trainer.fit()
    assert [line.split(",")[0] for line in caplog.messages] == [
        "  epoch 1 of 2: loss 1.5000 + 0.2500",
        "  epoch 2 of 2: loss 1.5000 + 0.2500",
    ]


def test_a_validation_that_is_not_a_number_names_metric_and_epoch(trainer):
    trainer.model.scores = [0.5, float("nan")]
    with pytest.raises(UserError, match=r"the validation metric mrr@10 is NaN after epoch 2"):
        trainer.fit()


def test_training_at_once_is_measured_as_decision_trees_do_it(trainer):
    assert trainer._train_at_once("t", "v") == ("t", "v")
    assert trainer.done == ["training begins", "training ends"]


def test_a_hook_stands_around_the_measured_epoch_may_leave_it_out_and_is_told_of_steps(trainer):
    trainer.epoch_hook = Hook(trainer.done)
    assert trainer.fit() == [2.0, 0.5, (1.5, 0.25), 0.25]
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
