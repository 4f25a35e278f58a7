"""Trained models that read one part of their prompts only, ready to be ablated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import toy

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.evaluation.collector import ExpectedEvaluator, RankingCollector
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

COLOURS = ("red", "green", "blue", "black", "white", "pink", "gold", "grey")
OPTIONS = {
    **toy.TINY,
    **{"eval_args": {"mode": "uni5"}, "metrics": ["MRR"], "topk": [5], "valid_metric": "MRR@5"},
    **{"item_text_labels": False, "n_recent_items": 2, "max_prompt_tokens": 200, "builtin_hidden_size": 32},
    **{"epochs": 6, "learning_rate": 0.01, "train_batch_size": 80},
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 4},
}


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[LLMTRSRTrainer, Any, Any]]]:
    """Makes a trainer, its training and its test loader, from walks of users through the colours."""
    with pytest.MonkeyPatch.context() as patch:

        def made(
            walks: Mapping[str, list[int]],
            summaries: Callable[[LLMTRSRDataset], Mapping[int, str]] = lambda dataset: {},
            **options: Any,
        ) -> tuple[LLMTRSRTrainer, Any, Any]:
            folder = tmp_path_factory.mktemp("run")
            patch.chdir(folder)
            items = {user: [f"no{n}" for n in walk] for user, walk in walks.items()}
            colours = [f"no{n}\t{colour}" for n, colour in enumerate(COLOURS)]
            toy.write_atomic(folder / "data" / "toy", toy.events_of(items), colours)
            config = Config(LLMTRSR, "toy", [], {**OPTIONS, "data_path": str(folder / "data"), **options})
            dataset = LLMTRSRDataset(config)
            (train, _, test), *_ = make_loaders(config, dataset)
            dataset.set_summaries(summaries(dataset))
            torch.manual_seed(0)
            np.random.seed(0)
            model = LLMTRSR(config, train._dataset)
            trainer = LLMTRSRTrainer(config, model)
            trainer.eval_collector = RankingCollector(config, model.score_resolution)
            trainer.evaluator = ExpectedEvaluator(config)
            return trainer, train, test

        yield made
