"""The trainer of a run: RecBole's or ours, with metrics under exact ties, measured costs and resumable epochs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import AbstractTrainer
from torch import Tensor

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.collector import ExpectedEvaluator, RankingCollector
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.screen import show


class EpochHook(Protocol):
    """Wraps the epochs of training and is called after their steps."""

    def train_epoch(self, epoch: int, run: Callable[[], Any]) -> Any:
        """The losses of an epoch, which `run` computes."""

    def after_step(self, epoch: int, n_batches: int, loss: Tensor) -> None:
        """Called by trainers that can begin mid-epoch, with the batches so far and the sum of their losses []."""


@cache
def run_trainer(host: type[AbstractTrainer]) -> type[AbstractTrainer]:
    """A trainer class, of RecBole's or ours, as runs use it."""

    class RunTrainer(host):  # type: ignore[misc, valid-type]
        """The host, with the collector and the evaluator of exact ties, and a file of its own for the checkpoint.

        Args:
            measured: called with 'training' or 'validation'; its context holds every epoch and validation, which `fit`
                runs in turn.

        Attributes:
            host: the class that it extends.
            epoch_hook: wraps the epochs, their measuring included; None where training cannot be resumed.
        """

        epoch_hook: EpochHook | None = None
        saved_model_file: str
        _epoch = 0  # the one in training, counted from 1
        _epoch_line = ""  # of an epoch that is not shown yet, since its validation follows

        def __init__(
            self, config: Config, model: AbstractRecommender, measured: Callable[[str], AbstractContextManager[None]]
        ) -> None:
            super().__init__(config, model)
            self._measured = measured
            # RecBole names the file by model and second, which seeds, variants and runs side by side share.
            number = processes.broadcast(uuid.uuid4().hex[:8])
            own_name = f"{config.label}-seed-{config['seed']}-{number}.pth"
            self.saved_model_file = str(Path(self.saved_model_file).with_name(own_name))
            self.eval_collector = RankingCollector(config, getattr(model, "score_resolution", None))
            self.evaluator = ExpectedEvaluator(config)

        def _train_epoch(
            self, train_data: Iterable[Interaction], epoch_idx: int, *args: object, **kwargs: object
        ) -> Any:
            def run() -> Any:
                with self._measured("training"):
                    return super(RunTrainer, self)._train_epoch(train_data, epoch_idx, *args, **kwargs)

            self._show_epoch()
            self._epoch = epoch_idx + 1
            began = time.perf_counter()
            losses = run() if self.epoch_hook is None else self.epoch_hook.train_epoch(epoch_idx, run)
            shown = " + ".join(f"{loss:.4f}" for loss in (losses if isinstance(losses, tuple) else (losses,)))
            seconds = time.perf_counter() - began
            self._epoch_line = f"  epoch {self._epoch} of {self.epochs}: loss {shown}, {seconds:.0f} s"
            return losses

        def _train_at_once(self, *args: object) -> Any:  # what decision trees have instead
            with self._measured("training"):
                return super()._train_at_once(*args)

        def _valid_epoch(self, *args: object, **kwargs: object) -> Any:
            with self._measured("validation"):
                score, result = super()._valid_epoch(*args, **kwargs)
            metric, best = str(self.config["valid_metric"]).lower(), self.best_valid_score
            if score != score:
                raise UserError(
                    f"the validation metric {metric} is NaN after epoch {self._epoch}, so it cannot select the best"
                    " epoch: set valid_metric to a metric that is defined on these data, or lower learning_rate"
                    f" ({self.config['learning_rate']}) if the model's scores are NaN"
                )
            is_best = score > best if self.valid_metric_bigger else score < best
            self._show_epoch(f"; validation {metric} {score:.4f}{' (best)' if is_best else ''}")
            return score, result

        def fit(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().fit(*args, **kwargs)
            finally:
                self._show_epoch()

        def _show_epoch(self, validation: str = "") -> None:
            if self._epoch_line and sum(weight.numel() for weight in self.model.parameters()) > 1:  # Pop only counts
                show(f"{self._epoch_line}{validation}")
            self._epoch_line = ""

        def _after_step(self, epoch: int, n_batches: int, loss: Tensor) -> None:
            super()._after_step(epoch, n_batches, loss)  # hosts that call it have one
            if self.epoch_hook is not None:
                self.epoch_hook.after_step(epoch, n_batches, loss)

    RunTrainer.host = host
    RunTrainer.__name__ = RunTrainer.__qualname__ = host.__name__  # the name that messages show
    return RunTrainer
