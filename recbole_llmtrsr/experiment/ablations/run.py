"""Ablations: the test again with parts of the prompts removed or changed, to show what the trained model reads.

Nothing is trained and nothing else differs: the same weights, candidates, budgets, precision and metrics. If an
ablation leaves the metrics unchanged, the model ignores that part of the prompt. The opposite does not follow: a
prompt unlike all that the model was trained on costs something by being strange, most of all on the builtin backbone,
which has read one wording only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger

import numpy as np
import numpy.typing as npt
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.ablations.changes import ABLATIONS, TrainedModel


@dataclass(frozen=True)
class AblationRows:
    """The evaluation of an ablation, with rows in the order of the test.

    Attributes:
        values: metrics by name, each [n_rows].
        ranks: expected rank of the target. [n_rows]
        n_changed: histories whose prompt before the candidate differs from that of the test.
        trims: counts of what the changed prompts had no room for.
    """

    values: Mapping[str, npt.NDArray[np.float64]]
    ranks: npt.NDArray[np.float64]
    n_changed: int
    trims: Mapping[str, int]


@dataclass(frozen=True)
class Ablations:
    """All ablations of a trained model by name, or the reason why one is left out."""

    rows: Mapping[str, AblationRows]
    left_out: Mapping[str, str]


def run_ablations(
    trainer: Trainer, test_data: AbstractDataLoader, seed: int, *, show_progress: bool = False
) -> Ablations:
    """Test a trained model once more with each change of its prompts.

    An ablation that has nothing to change (no summary to take away), or for which prompts have no room, is left out.
    Prompts, trims and counted work of the model are afterwards as before; ``trainer.eval_collector`` holds the last
    ablation's rows.

    Args:
        trainer: an LLMTRSRTrainer with the weights to test, whose ``eval_collector`` keeps ``values`` and ``ranks``.
        test_data: the loader of the test.
        seed: of the shuffles and of the other users; the same one changes the prompts of every model alike.
        show_progress: show a bar for each ablation.
    """
    tested = TrainedModel(trainer.model, test_data._dataset, seed)
    own = tested.prompts()
    rows: dict[str, AblationRows] = {}
    left_out: dict[str, str] = {}
    # A run's summary at wandb shows its test, not its last ablation.
    at_wandb, trainer.wandblogger.log_wandb = trainer.wandblogger.log_wandb, False
    try:
        for name, change in ABLATIONS.items():
            try:
                prompts = change(tested)
            except UserError as reason:
                left_out[name] = str(reason)
                getLogger().info(f"ablation '{name}' is left out: {reason}")
                continue
            with trainer.model.reading(prompts.builder, prompts.summary, prompts.history):
                result = trainer.evaluate(test_data, load_best_model=False, show_progress=show_progress)
            getLogger().info(f"ablation '{name}': {result}")
            rows[name] = AblationRows(
                {metric: np.array(values) for metric, values in trainer.eval_collector.values.items()},
                np.array(trainer.eval_collector.ranks),
                sum(not np.array_equal(own.prefix(i), prompts.prefix(i)) for i in set(tested.history_ids)),
                dict(prompts.builder.trims),
            )
    finally:
        trainer.wandblogger.log_wandb = at_wandb
    return Ablations(rows, left_out)
