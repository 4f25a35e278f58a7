"""Training that can be stopped at any moment: what is saved of it and when, and how it resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.atomic_write import remove_drafts
from recbole_llmtrsr.runtime.random_state import (
    data_randomness,
    model_randomness,
    restore_data_randomness,
    restore_model_randomness,
)
from recbole_llmtrsr.runtime.screen import show
from recbole_llmtrsr.training.state_file import check_state
from recbole_llmtrsr.training.state_folder import StateFolder

# Of RecBole's: arrays that are shuffled or averaged in place, outside of the state_dict.
_STATE_ELSEWHERE = ("LINE", "DiffRec", "LDiffRec")


class Part(Protocol):
    """Something beside the trainer that training changes and a result reports."""

    def state(self) -> dict[str, Any]:
        """Its state, in plain values and tensors."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned."""


class ResumableTraining:
    """Saves the state of a trainer while its `fit` runs, from which another process resumes, to the same end.

    A state is saved when the best checkpoint was, when training has ended, and besides at most every so many minutes:
    before and after an epoch, and between two steps if the trainer's epochs can begin in the middle (those that have
    `begin_at`). Batches before that place are made again and left out, so that random numbers and order are those of a
    run that was not stopped.

    The log names what cannot be saved, and a stopped run trains it again: trainers with a loop or an epoch
    of their own (knowledge graphs, decision trees, pretraining), models whose `other_parameter` holds more than
    tensors and plain values, and those that keep a state elsewhere, as a few of RecBole's do.

    Args:
        trainer: of a run; this becomes the hook of its epochs.
        minutes: between two states; None saves none and resumes from none.
        parts: further state beside the trainer's, by name.

    Attributes:
        facts: plain values to keep with every state; those of the run that began, once `restore` has found one.
        validations: epoch, seconds since the beginning and score of each validation.
        is_fitted: nothing is left to train.
    """

    def __init__(
        self,
        trainer: Trainer,
        loader: AbstractDataLoader,
        folder: StateFolder,
        minutes: float | None,
        parts: Mapping[str, Part],
    ) -> None:
        self.facts: dict[str, Any] = {}
        self.validations: list[dict[str, Any]] = []
        self.is_fitted = False
        self._trainer, self._loader, self._folder, self._parts = trainer, loader, folder, parts
        self._is_on = minutes is not None
        self._seconds_between = 60 * (minutes or 0)
        self._saved_at = self._began = time.monotonic()
        self._state: dict[str, Any] | None = None
        self._epoch_began: dict[str, Any] = {}
        self._can_be_saved = self._is_on
        if self._is_on and not (_has_known_loop(trainer.host) and isinstance(loader, AbstractDataLoader)):
            self._give_up(f"{type(trainer).__name__} has a loop of its own")
        elif self._is_on and any(one.__name__ in _STATE_ELSEWHERE for one in type(trainer.model).__mro__):
            self._give_up("it keeps a state that no checkpoint has")
        if self._can_be_saved:
            trainer.epoch_hook = self

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a stop included."""
        return time.monotonic() - self._began

    def restore(self, saved: bool) -> bool:
        """Resume from the latest state, if there is one.

        Args:
            saved: the run keeps its best checkpoint.

        Returns:
            Whether training had begun to change the model; if not, it begins as in a new run, with the `facts` and the
            checkpoint's name of the run that began.

        Raises:
            UserError: the state's checkpoint is gone.
        """
        state = self._folder.latest()
        processes.barrier()  # before the main process saves the next one
        if state is None:
            return False
        if not self._is_on:
            getLogger().warning(
                "checkpoint_minutes: ~ disables resuming, so training starts from the beginning; saved states are kept"
            )
            return False
        self.facts, self._trainer.saved_model_file = state["facts"], state["checkpoint"]
        self._remove_drafts(Path(state["checkpoint"]))
        if state["phase"] == "begun":
            return False
        if saved and state["has_checkpoint"] and not Path(state["checkpoint"]).is_file():
            raise UserError(
                f"the checkpoint {state['checkpoint']} of the run to resume does not exist: restore the file, or start"
                " a new run without resume, in another result_dir"
            )
        self._restore(state)
        show(f"  resumed: {_place(state)}, {state['seconds']:.0f} s of training were done before")
        return True

    def begin(self, **facts: object) -> None:
        """Called before training begins; `facts` are kept with every state."""
        self.facts = facts
        if self._is_on:
            self._folder.save({"phase": "begun", "facts": facts, "checkpoint": self._trainer.saved_model_file})

    def validated(self, epoch: int, score: float) -> None:
        """Called by `fit` after a validation, once the best checkpoint is saved."""
        trainer = self._trainer
        self.validations.append({"epoch": epoch + 1, "seconds": round(self.seconds, 3), "score": float(score)})
        is_last = epoch + 1 == trainer.epochs or trainer.cur_step > trainer.stopping_step
        if self._can_be_saved and not is_last and (trainer.cur_step == 0 or self._is_due()):
            self._save("epoch", epoch + 1, data=data_randomness(self._loader.generator))

    def fitted(self, saved: bool) -> None:
        """Called when training has ended; `saved` if the best weights are in the checkpoint."""
        self.is_fitted = True
        self._save("fitted", self._trainer.epochs, with_weights=not saved)

    def _remove_drafts(self, checkpoint: Path) -> None:
        """Remove files that the stopped process left half written."""
        if processes.is_main():
            self._folder.remove_drafts()
            for name in (checkpoint.name, checkpoint.stem):  # the backbone's own format lies in a folder beside it
                remove_drafts(checkpoint.parent, name)

    def _restore(self, state: dict[str, Any]) -> None:
        trainer = self._trainer
        trainer.start_epoch, trainer.cur_step = state["epoch"], state["cur_step"]
        trainer.best_valid_score, trainer.best_valid_result = state["best_valid_score"], state["best_valid_result"]
        trainer.train_loss_dict = dict(state["train_loss"])
        self.validations = list(state["validations"])
        self._began -= state["seconds"]
        for name, part in self._parts.items():
            if name in state["parts"]:  # an older version may not have known it
                part.restore(state["parts"][name])
        if "model" in state:
            self._restore_model(state)
        self.is_fitted = state["phase"] == "fitted"
        if self.is_fitted:
            restore_model_randomness(state["randomness"])
        else:
            self._state = state  # its random numbers are put back when its epoch begins

    def train_epoch(self, epoch: int, run: Callable[[], Any]) -> Any:
        """The losses of an epoch: run from where the latest state lies in it, or read from that state."""
        state, self._state = self._state, None
        generator = self._loader.generator
        if state is None:
            if self._is_due():
                self._save("epoch", epoch, data=data_randomness(generator))
            self._epoch_began = data_randomness(generator)
        else:
            restore_data_randomness(state["data"], generator)
            restore_model_randomness(state["randomness"])
            if state["phase"] == "validation":
                return state["loss"]
            self._epoch_began = state["data"]
            if state["phase"] == "step":
                self._trainer.begin_at(*state["loss"])
        loss = run()
        if self._is_due():
            self._save("validation", epoch, loss=loss, data=data_randomness(generator))
        return loss

    def after_step(self, epoch: int, n_batches: int, loss: torch.Tensor) -> None:
        """Save a state in the middle of an epoch, if it is time."""
        if self._is_due():
            self._save("step", epoch, loss=(n_batches, loss), data=self._epoch_began)

    def _is_due(self) -> bool:
        """Whether the main process is due for a state, which all processes make together."""
        return processes.broadcast(time.monotonic() - self._saved_at >= self._seconds_between)

    def _save(self, phase: str, epoch: int, *, with_weights: bool = True, **more: object) -> None:
        if not self._can_be_saved:
            return
        trainer, best = self._trainer, self._trainer.best_valid_result
        state = {
            "phase": phase,
            "epoch": epoch,
            "facts": self.facts,
            "checkpoint": trainer.saved_model_file,
            "has_checkpoint": Path(trainer.saved_model_file).is_file(),
            "cur_step": trainer.cur_step,
            "best_valid_score": float(trainer.best_valid_score),
            "best_valid_result": best if best is None else {name: float(value) for name, value in best.items()},
            "train_loss": {number: float(loss) for number, loss in trainer.train_loss_dict.items()},
            "validations": self.validations,
            "seconds": self.seconds,
            "parts": {name: part.state() for name, part in self._parts.items()},
            "randomness": model_randomness(),
            **more,
        }
        if with_weights:
            state |= self._model_state()
        try:
            check_state(trainer.model.other_parameter())  # without it, its checkpoint could not be loaded either
            self._folder.save(state)
        except TypeError as error:
            self._give_up(str(error))
        self._can_be_saved = processes.broadcast(self._can_be_saved)
        self._saved_at = time.monotonic()

    def _give_up(self, reason: str) -> None:
        self._can_be_saved = False
        getLogger().warning(
            f"training of {type(self._trainer.model).__name__} cannot be resumed and would start again: {reason}"
        )

    def _model_state(self) -> dict[str, Any]:
        model, schedule = self._trainer.model, getattr(self._trainer, "schedule_state", None)
        return {
            "model": dict(model.state_dict()),
            "other": model.other_parameter(),
            # RecBole's models count steps in plain attributes (annealing, warm-up), which no state_dict has.
            "counters": {name: value for name, value in vars(model).items() if type(value) in (int, float)},
            "optimizer": self._trainer.optimizer.state_dict(),
            "scheduler": None if schedule is None else schedule(),
        }

    def _restore_model(self, state: Mapping[str, Any]) -> None:
        trainer, other = self._trainer, state["other"].items()
        trainer.model.load_state_dict(state["model"])
        trainer.model.load_other_parameter(
            {name: value.to(trainer.device) if isinstance(value, torch.Tensor) else value for name, value in other}
        )
        vars(trainer.model).update(state["counters"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if state["scheduler"] is not None:
            trainer.restore_schedule(state["scheduler"])


def _has_known_loop(own: type[Trainer]) -> bool:
    return own.fit is Trainer.fit and (own._train_epoch is Trainer._train_epoch or hasattr(own, "begin_at"))


def _place(state: Mapping[str, Any]) -> str:
    if state["phase"] == "fitted":
        return "training had ended"
    epoch = f"epoch {state['epoch']}"
    if state["phase"] == "step":
        return f"{epoch}, behind its batch {state['loss'][0]}"
    return f"before the validation of {epoch}" if state["phase"] == "validation" else f"before {epoch}"
