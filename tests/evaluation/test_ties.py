"""Ties: no model gains from how equal scores happen to be listed."""

import numpy as np
import pytest
import torch

from recbole_llmtrsr.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.ties import UnbiasedCollector
from recbole_llmtrsr.registry import get_model


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["test"])
    return Config(get_model("LLMTRSR"), "ml-100k", [], {"use_gpu": False, "metrics": ["Hit", "MRR"], "topk": [3, 10]})


def metrics(config, scores, targets):
    from recbole.evaluator import Evaluator

    collector = UnbiasedCollector(config)
    for start in range(0, len(scores), 50):
        part = slice(start, start + 50)
        n = len(scores[part])
        collector.eval_batch_collect(scores[part], None, torch.arange(n), targets[part])
    return Evaluator(config).evaluate(collector.get_data_struct())


@pytest.mark.parametrize("target", [1, 21])
def test_a_constant_score_has_the_metrics_of_chance_wherever_the_target_stands(config, target):
    scores = torch.full((4000, 40), float("-inf"))
    scores[:, 1:22] = 0.5  # 21 candidates of 39 items
    found = metrics(config, scores, torch.full((4000,), target))
    assert found["hit@3"] == pytest.approx(3 / 21, abs=0.02)
    assert found["hit@10"] == pytest.approx(10 / 21, abs=0.03)
    assert found["mrr@10"] == pytest.approx(sum(1 / k for k in range(1, 11)) / 21, abs=0.015)


def test_without_ties_the_metrics_are_those_of_the_ranks(config):
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(np.stack([rng.permutation(30) for _ in range(200)])).float()
    targets = torch.from_numpy(rng.integers(30, size=200))
    ranks = (scores > scores[torch.arange(200), targets][:, None]).sum(1)
    found = metrics(config, scores, targets)
    assert found["hit@3"] == pytest.approx(float((ranks < 3).float().mean()), abs=1e-4)
    assert found["mrr@10"] == pytest.approx(float(torch.where(ranks < 10, 1 / (ranks + 1), 0).mean()), abs=1e-4)


def test_an_evaluation_repeats_to_the_last_digit(config):
    scores = torch.zeros(300, 25)
    targets = torch.arange(300) % 25
    assert metrics(config, scores, targets) == metrics(config, scores, targets)


def test_scores_that_are_not_numbers_are_refused(config):
    scores = torch.zeros(2, 25)
    scores[1, 3] = float("nan")
    with pytest.raises(UserError, match="scores hold nan: it diverged in training; lower learning_rate"):
        metrics(config, scores, torch.tensor([1, 2]))
