"""The test of a trained model: its table of ranked histories, also among other candidates, and its ablations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.evaluation.comparison.runs import ALSO, Run
from recbole_llmtrsr.evaluation.metrics import Floats
from recbole_llmtrsr.evaluation.per_history import ABLATION_DIR, FILE_NAME, per_history, write_per_history
from recbole_llmtrsr.evaluation.ranked_rows import RankedRows, ranked_rows, target_words
from recbole_llmtrsr.evaluation.result import write_json
from recbole_llmtrsr.experiment.ablations import run_ablations
from recbole_llmtrsr.model.language_model_recommender import reads_candidates


class FinalTest:
    """Tests a trained model: ``trainer`` holds it, with the weights to test, and a RankingCollector."""

    def __init__(self, config: Config, trainer: Trainer) -> None:
        self._config = config
        self._trainer = trainer

    def table(self, loader: AbstractDataLoader) -> pd.DataFrame | None:
        """The ranked histories of the latest evaluation, of this loader's rows; None where nothing was ranked."""
        if not len(self._trainer.eval_collector.ranks):
            return None
        rows, dataset = ranked_rows(loader), loader._dataset
        reads_prompts = reads_candidates(self._trainer.model)
        trimmed = self._trainer.model.prompts.trimmed if reads_prompts else ()
        words = target_words(self._config, dataset, rows.targets)
        features = {
            "target_popularity": rows.largest(dataset.popularity[rows.targets]),
            "target_words": None if words is None else rows.largest(words),
            "prompt_trimmed": [i in trimmed for i in rows.history_ids.tolist()] if reads_prompts else None,
        }
        found = self._trainer.eval_collector
        return self._table(rows, found.values, found.ranks, features)

    def among(self, loader: AbstractDataLoader, mode: str, result: Mapping[str, Any], folder: Path) -> Run:
        """Test among other candidates, and write the results to a folder below the run's.

        Args:
            loader: of the test's rows among these candidates.
            mode: their mode.
            result: of the run, whose entries other than the test's own are repeated.
            folder: the run's.
        """
        self._trainer.eval_collector.forget()
        with self._apart():
            metrics = self._trainer.evaluate(loader, load_best_model=False, show_progress=self._config["show_progress"])
        getLogger().info(f"test among {mode}: {metrics}")
        table = self.table(loader) if metrics else None
        found = {
            **{name: value for name, value in result.items() if name != "reranking"},  # candidates are not retrieved
            "test_result": {name: float(value) for name, value in metrics.items()} if metrics else None,
            "n_test": len(loader._dataset),
            # The cost of these candidates is not known, and that of the run's test is another.
            "cost": {**result["cost"], "evaluation": dict.fromkeys(result["cost"]["evaluation"])},
            "candidates": {**result["candidates"], "test": loader.candidates.report()},
        }
        own = folder / ALSO / folder_name(mode)
        write_tables(own, table, {})
        write_json(own / "result.json", found)
        return Run(self._config.label, self._config["seed"], found, table, {})

    def ablated(self, loader: AbstractDataLoader) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
        """The ranked histories by ablation, and the ablations' entry in result.json."""
        if not reads_candidates(self._trainer.model):
            getLogger().info("ablations: the option has no effect on this model, which reads no prompts")
            return {}, {}
        ablations = run_ablations(
            self._trainer, loader, self._config.data_seed, show_progress=self._config["show_progress"]
        )
        own = ranked_rows(loader)
        rows = ablations.rows.items()
        tables = {name: self._table(own, found.values, found.ranks, {}) for name, found in rows}
        changed = {name: {"n_changed": found.n_changed, "trims": dict(found.trims)} for name, found in rows}
        return tables, {"changed": changed, "left_out": dict(ablations.left_out)}

    def _table(
        self, rows: RankedRows, values: Mapping[str, Floats], ranks: Floats, features: Mapping[str, Any]
    ) -> pd.DataFrame:
        found = self._trainer.eval_collector
        counts = (found.n_candidates, found.n_positives)
        return per_history(rows.users, rows.n_events, rows.target_tokens, values, ranks, *counts, features)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Keep the block out of the run's counted tokens and, at wandb, its summary."""
        meter, logger = getattr(self._trainer.model, "meter", None), self._trainer.wandblogger
        mark, logger.log_wandb, at_wandb = meter.mark() if meter else None, False, logger.log_wandb
        try:
            yield
        finally:
            logger.log_wandb = at_wandb
            if meter:
                meter.back_to(mark)


def write_tables(folder: Path, table: pd.DataFrame | None, ablations: Mapping[str, pd.DataFrame]) -> None:
    """Write the ranked histories of the test and of the ablations."""
    if table is None:
        return
    write_per_history(folder / FILE_NAME, table)
    for name, of_ablation in ablations.items():
        write_per_history(folder / ABLATION_DIR / f"{name}.csv", of_ablation)


def folder_name(mode: str) -> str:
    """A candidate mode as the name of a folder.

    >>> folder_name("pop20"), folder_name("file:sets/ours.npz")
    ('pop20', 'file-sets-ours.npz')
    """
    return re.sub(r"[^\w.]+", "-", mode)
