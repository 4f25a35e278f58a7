"""What full ranking with a language model costs, told before it starts."""

from __future__ import annotations

from collections.abc import Mapping

from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.language_model_recommender import reads_candidates


def check_full_sort_cost(config: Config, loaders: Mapping[str, AbstractDataLoader]) -> None:
    """Refuse full ranking above ``max_full_sort_scores`` by models that read every candidate.

    Args:
        config: our Config.
        loaders: evaluation loader by split.

    Raises:
        UserError: with the cost in scores, and the remedies.
    """
    if not reads_candidates(config.model_class):
        return
    limit, retrieval = config.settings.evaluation.max_full_sort_scores, config.settings.retrieval
    for split, loader in loaders.items():
        if config["eval_args"]["mode"][split] != "full":
            continue
        n_histories = len(loader._dataset)
        n_items = loader._dataset.item_num - 1 if retrieval.retriever is None else retrieval.rerank_top_k
        if n_histories * n_items > limit:
            raise UserError(
                f"full ranking of {split} would score {n_histories:,} histories x {n_items:,} items ="
                f" {n_histories * n_items:,} candidates with the language model, more than max_full_sort_scores:"
                f" {limit:,}; let a retriever choose what it scores (retriever: Pop), rank sampled"
                " candidates instead (eval_args: {mode: uni100}), or raise the limit"
            )
