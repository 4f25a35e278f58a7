"""The re-ranking stage of a run: its retriever, the blend of their scores, and the retriever's recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.trainer import Trainer

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.loaders.full_ranking import MOST_SCORES, excludes_seen, history_places
from recbole_llmtrsr.data.loaders.train_targets import TargetTrainDataLoader
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.model.language_model_recommender import reads_candidates
from recbole_llmtrsr.model.sequential_recommender.llmseqsim import LLMSeqSim
from recbole_llmtrsr.registry import get_dataset, get_model
from recbole_llmtrsr.retrieval.reranking import PopularityRetriever, Reranking, Retriever
from recbole_llmtrsr.retrieval.trained import TrainedRetriever, faults_of_model, faults_of_rule, trained_retriever
from recbole_llmtrsr.runtime.packing import groups
from recbole_llmtrsr.runtime.screen import Bar

_RULES = ("Pop", "text")
SHARES = tuple(i / 10 for i in range(11))  # that are tried


def faults_of_retrievers(configs: Sequence[Config], saved: bool) -> list[str]:
    """Faults of the retrievers of a comparison's runs, in their order, that show before anything is trained."""
    faults: list[str] = []
    before: dict[tuple[str, int], Config] = {}
    for config in configs:
        if reads_candidates(config.model_class):
            faults += _faults_of_negatives(config)
        if _reranks(config):
            faults += _faults_of_retriever(config, before, saved)
        before[config.label, config["seed"]] = config
    return faults


def with_retriever(config: Config, runs: Sequence[Run]) -> Config:
    """The options of the next run; a ``retriever`` among the runs before it is their checkpoint of the same seed."""
    name = config.settings.retrieval.retriever
    found = [run.result.get("checkpoint") for run in runs if (run.label, run.seed) == (name, config["seed"])]
    if not (_reranks(config) and name not in _RULES and found and found[0] is not None):
        return config
    retrieval = replace(config.settings.retrieval, retriever=found[0])
    return config.changed(replace(config.settings, retrieval=retrieval))


def make_reranking(config: Config, train: Dataset, n_valid: int) -> Reranking | None:
    """The re-ranking that the options ask for; None where a model scores every item.

    Raises:
        UserError: a retriever that does not fit this run, or nothing to tune the blend on.
    """
    options = config.settings.retrieval
    if not _reranks(config):
        return None
    if options.blend is None and n_valid == 0:
        raise UserError("blend: ~ is tuned on the validation set, which is empty: set blend to a number from 0 to 1")
    reranking = Reranking(
        _retriever(config, train),
        options.rerank_top_k,
        train.item_num,
        seed=config.data_seed,
        resolution=config.model_class.score_resolution,
        left_out=partial(history_places, train.histories) if excludes_seen(config) else None,
    )
    reranking.blend = 1.0 if options.blend is None else options.blend
    return reranking


def retrieve_negatives(config: Config, train: TargetTrainDataLoader, reranking: Reranking) -> None:
    """Give the loader of training the retriever's items as negatives, a share of ``hard_negative_ratio``."""
    share = config.settings.retrieval.hard_negative_ratio
    if not share:
        return
    rows = train.prompted
    found, batches = [], list(groups(range(len(rows)), max(1, MOST_SCORES // rows.item_num)))
    for places in Bar(batches, desc="retrieved negatives", disable=not config["show_progress"]):
        batch = train.transform(rows, rows[np.array(places)])
        found.append(reranking.top(batch)[1].cpu().numpy())
    train.set_retrieved(np.concatenate(found), share)


def finish_reranking(
    reranking: Reranking, trainer: Trainer, loaders: Mapping[str, AbstractDataLoader], load_best_model: bool
) -> dict[str, Any]:
    """Tune the blend if the options ask for it, with the loaders 'valid' and 'test'.

    Returns:
        for result.json: the re-ranking with the retriever's recall and, where the blend was tuned, the validation.
    """
    tuned: dict[str, Any] = {}
    report = {**reranking.retriever.report(), "top_k": reranking.top_k}
    if trainer.config.settings.retrieval.blend is None:
        name = trainer.config["valid_metric"].lower()
        by_share = tune_blend(reranking, trainer, loaders["valid"], load_best_model)
        best = by_share[reranking.blend]
        tuned = {"best_valid_score": best[name], "best_valid_result": best}
        report["blend_scores"] = {str(share): own[name] for share, own in by_share.items()}
    ceilings = recall_ceilings(reranking, loaders)
    return {**tuned, "reranking": {**report, "blend": reranking.blend, "recall_ceiling": ceilings}}


def tune_blend(
    reranking: Reranking, trainer: Trainer, valid: AbstractDataLoader, load_best_model: bool
) -> dict[float, dict[str, float]]:
    """Set the re-ranker's share that is best on the validation set, of equally good ones the smallest.

    Returns:
        the validation's metrics by share.
    """
    name, sign = trainer.config["valid_metric"].lower(), 1 if trainer.config["valid_metric_bigger"] else -1
    found: dict[float, dict[str, float]] = {}
    with reranking.remembering():
        for share in SHARES:
            reranking.blend = share
            result = trainer.evaluate(valid, load_best_model=load_best_model and not found)
            found[share] = {metric: float(value) for metric, value in result.items()}
    reranking.blend = max(found, key=lambda share: (sign * found[share][name], -share))
    getLogger().info(f"blend: {reranking.blend} of { {share: own[name] for share, own in found.items()} }")
    return found


def recall_ceilings(reranking: Reranking, loaders: Mapping[str, AbstractDataLoader]) -> dict[str, float]:
    """Recall of the retriever's top by split, for loaders of full ranking; it bounds the recall of the re-ranking."""
    ceilings = {}
    for split, loader in loaders.items():
        if not isinstance(loader, FullSortEvalDataLoader) or len(loader) == 0:
            continue
        n_found = n_targets = 0
        for interaction, _, rows, targets in loader:
            _, items = reranking.top(interaction)
            n_found += int((items.cpu()[rows] == targets[:, None]).any(1).sum())
            n_targets += len(targets)
        ceilings[split] = n_found / n_targets
    return ceilings


def _faults_of_negatives(config: Config) -> list[str]:
    if not config.settings.retrieval.hard_negative_ratio:
        return []
    if config.settings.retrieval.retriever is None:
        return ["hard_negative_ratio needs a retriever that finds them: set retriever, or hard_negative_ratio: 0"]
    if config.settings.training.train_on == "impressions":
        return ["train_on: impressions has negatives of its own: set hard_negative_ratio: 0, or train_on: targets"]
    return []


def _faults_of_retriever(config: Config, before: Mapping[tuple[str, int], Config], saved: bool) -> list[str]:
    name = config.settings.retrieval.retriever
    assert name is not None
    if name in _RULES:
        return faults_of_rule(name, config) if name == "Pop" else []
    own = before.get((name, config["seed"]))
    if own is not None:
        if not saved:
            return [f"retriever {name} of this comparison is not saved: run with saved=True"]
        return faults_of_model(name, own.model_class, own["MAX_ITEM_LIST_LENGTH"], config)
    if Path(name).expanduser().is_file():
        return []
    if name in {label for label, _ in before}:
        return [f"retriever {name} is not trained with the seed {config['seed']} of {config.label}: give both one seed"]
    return [
        f"retriever of {config.label} must be {', '.join(_RULES)}, the checkpoint (.pth) of a model of RecBole's, or a"
        f" model that is compared before it; '{name}' is none of them"
    ]


def _reranks(config: Config) -> bool:
    """Whether the model reads candidates and a retriever chooses them."""
    return config.settings.retrieval.retriever is not None and reads_candidates(config.model_class)


def _retriever(config: Config, train: Dataset) -> Retriever:
    name = config.settings.retrieval.retriever
    assert name is not None
    if name == "Pop":
        return PopularityRetriever(train.popularity, config["device"])
    if name == "text":
        return TrainedRetriever(LLMSeqSim(config, train).to(config["device"]), None)
    return trained_retriever(Path(name).expanduser(), config, train, get_model, get_dataset)
