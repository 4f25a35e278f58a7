"""The collector in RecBole's evaluation: RecBole's results where no scores are equal, expectations where some are."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
import torch
from recbole.data import data_preparation
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_llmtrsr.config.metric_names import register_metrics, result_names
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.collector import ExpectedEvaluator, RankingCollector
from recbole_llmtrsr.evaluation.metrics import row_values
from recbole_llmtrsr.evaluation.tie_groups import random_ranking
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer
from recbole_llmtrsr.runtime import recbole_patches

RANKING = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "GAUC"]
OF_ITEMS = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]
NONE = float("-inf")


def options(metrics, **changes):
    return {
        "metrics": metrics,
        "topk": [1, 3, 10],
        "metric_decimal_place": 10,
        "eval_args": {"mode": {"valid": "uni20", "test": "uni20"}},
        "device": torch.device("cpu"),
        "LABEL_FIELD": "label",
        "tail_ratio": 0.2,
        **changes,
    }


@pytest.fixture(autouse=True)
def host():
    recbole_patches.apply()
    np.float, np.bool = np.float64, np.bool_  # what RecBole's Config does, and its metrics need
    register_metrics()


def evaluate(collector, evaluator, scores, rows, items, batch_size=7):
    for start in range(0, len(scores), batch_size):
        mine = (rows >= start) & (rows < start + batch_size)
        collector.eval_batch_collect(scores[start : start + batch_size], None, rows[mine] - start, items[mine])
    struct = collector.get_data_struct()
    return evaluator.evaluate(struct)


def ours(config, *data, **how):
    collector = RankingCollector(config, **how)
    return evaluate(collector, ExpectedEvaluator(config), *data), collector


def different_scores(n_positives, n_rows=60, n_items=40):
    """Different scores of rows with some columns that are no candidates, and positives among the others."""
    rng = np.random.default_rng(n_positives)
    scores = torch.from_numpy(rng.permuted(np.tile(np.arange(n_items, dtype=np.float32), (n_rows, 1)), axis=1))
    scores[:, 0] = NONE
    scores[torch.from_numpy(rng.random((n_rows, n_items)) < 0.2)] = NONE
    rows = np.repeat(np.arange(n_rows), n_positives)
    items = np.concatenate([rng.choice(np.flatnonzero(np.isfinite(row)), n_positives, False) for row in scores.numpy()])
    return scores, torch.from_numpy(rows), torch.from_numpy(items)


@pytest.mark.parametrize("n_positives", [1, 2, 5])
def test_without_equal_scores_all_ranking_metrics_are_recbole_s(n_positives):
    config, data = options(RANKING), different_scores(n_positives)
    expected = evaluate(Collector(config), Evaluator(config), *data)
    found, _ = ours(config, *data)
    assert list(found) == list(expected)
    assert len(found) == 19
    assert found == pytest.approx(expected, abs=1e-6)  # RecBole's GAUC is float32
    without_gauc = {name: value for name, value in expected.items() if name != "gauc"}
    assert {name: found[name] for name in without_gauc} == pytest.approx(without_gauc, abs=2e-10)


def test_metrics_of_the_items_themselves_are_recbole_s_in_their_place_of_the_list():
    config = options(["MRR", *OF_ITEMS, "Hit"])
    scores, rows, items = different_scores(1)
    popularity = Counter({item: 1 + item % 5 for item in range(1, 40)})
    struct = DataStruct()
    struct.set("rec.items", torch.topk(scores, 10).indices)
    struct.set("data.num_items", 40)
    struct.set("data.count_items", popularity)
    own = options(OF_ITEMS)
    expected = Evaluator(own).evaluate(struct)

    collector = RankingCollector(config)
    collector.data_struct.set("data.num_items", 40)
    collector.data_struct.set("data.count_items", popularity)
    for _ in range(2):  # counts of the training data outlive an evaluation, its items do not
        found = evaluate(collector, ExpectedEvaluator(config), scores, rows, items)
        assert "rec.items" not in collector.data_struct
        assert list(found) == result_names(config["metrics"], config["topk"])
        assert {name: found[name] for name in expected} == expected


def test_metrics_without_a_ranking_are_recbole_s():
    config = options(["AUC", "LogLoss", "MAE", "RMSE"])
    scores, labels = torch.tensor([0.9, 0.2, 0.6, 0.3]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    results = []
    for theirs_or_ours in ((Collector, Evaluator), (RankingCollector, ExpectedEvaluator)):
        collector, evaluator = (made(config) for made in theirs_or_ours)
        for half in (slice(0, 2), slice(2, 4)):
            collector.eval_batch_collect(scores[half], Interaction({"label": labels[half]}), None, None)
        results.append(evaluator.evaluate(collector.get_data_struct()))
    assert results[0] == results[1]
    assert list(results[1]) == ["auc", "logloss", "mae", "rmse"]
    assert results[1]["auc"] == 0.75
    assert collector.values == {}


@pytest.mark.parametrize("target", [1, 21])
def test_a_constant_score_has_exactly_the_metrics_of_chance_wherever_the_target_stands(target):
    metrics = [*RANKING, "ImpressionAUC", "ImpressionMRR"]
    scores = torch.full((30, 40), NONE)
    scores[:, 1:22] = 0.5
    found, collector = ours(options(metrics), scores, torch.arange(30), torch.full((30,), target))
    chance = row_values(random_ranking([21], [1]), [name.lower() for name in metrics], [1, 3, 10])
    assert found == {name: round(float(value[0]), 10) for name, value in chance.items()}
    for name, value in chance.items():
        assert collector.values[name].tolist() == value.tolist() * 30
    assert collector.ranks.tolist() == [11.0] * 30


def test_rows_are_kept_unrounded_in_the_loader_s_order_across_batches():
    scores = torch.tensor([[NONE, 3.0, 2.0, 1.0], [NONE, 1.0, 1.0, NONE], [NONE, 1.0, 2.0, 3.0]])
    config = options(["MRR", "GAUC"], topk=[3], metric_decimal_place=2)
    data = (scores, torch.tensor([0, 1, 2, 2]), torch.tensor([2, 1, 1, 3]))
    collector = RankingCollector(config)
    found = evaluate(collector, ExpectedEvaluator(config), *data, batch_size=2)
    assert found == {"mrr@3": 0.75, "gauc": 0.5}
    assert collector.values["mrr@3"].tolist() == [0.5, 0.75, 1.0]
    assert collector.values["gauc"].tolist() == [0.5, 0.5, 0.5]
    assert collector.ranks.tolist() == [2.0, 1.5, 2.0]
    assert collector.n_candidates.tolist() == [3, 2, 3]
    assert collector.n_positives.tolist() == [1, 1, 2]


def test_shuffled_columns_change_no_value_in_its_last_bit():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (50, 30), generator=generator).float()
    order = torch.rand(50, 30, generator=generator).argsort(dim=1)
    rows, items = torch.arange(50), torch.randint(0, 30, (50,), generator=generator)
    place = order.argsort(dim=1)[rows, items]
    config = options([*RANKING, "ImpressionAUC", "ImpressionMRR"])
    before, one = ours(config, scores, rows, items)
    after, other = ours(config, scores.gather(1, order), rows, place)
    assert before == after
    for name, values in one.values.items():
        assert torch.equal(torch.from_numpy(values), torch.from_numpy(other.values[name])), name


def test_a_resolution_makes_scores_equal_that_differ_by_noise():
    scores = torch.tensor([[NONE, 1.0, 1.0 + 2**-20, 1.0 - 2**-20, 1.0 + 2**-10]])
    data = (scores, torch.tensor([0]), torch.tensor([2]))
    assert ours(options(["MRR"]), *data)[1].ranks.tolist() == [2.0]
    _, collector = ours(options(["MRR"]), *data, score_resolution=2**-16)
    assert collector.ranks.tolist() == [3.0]
    assert collector.values["mrr@3"][0] == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert collector.n_candidates.tolist() == [4]


def test_a_resolution_that_is_no_distance_is_refused():
    with pytest.raises(ValueError, match="score_resolution must be > 0, got 0"):
        RankingCollector(options(["MRR"]), score_resolution=0)


def test_rows_without_negatives_are_told_and_left_out(caplog):
    scores = torch.tensor([[NONE, 1.0, NONE], [NONE, 1.0, 2.0]])
    with caplog.at_level(logging.WARNING):
        found, _ = ours(options(["ImpressionAUC"]), scores, torch.tensor([0, 1]), torch.tensor([1, 2]))
    assert found == {"impressionauc": 1.0}
    assert "impressionauc: 1 of 2 rows have no negatives and are excluded" in caplog.text


def test_scores_that_are_not_numbers_are_refused():
    scores = torch.zeros(2, 25)
    scores[1, 3] = float("nan")
    with pytest.raises(UserError, match="scores contain nan, which means that training diverged: lower learning_rate"):
        ours(options(["MRR"]), scores, torch.arange(2), torch.tensor([1, 2]))


def test_value_metrics_among_sampled_candidates_are_recbole_s():
    config = options(["AUC"])
    collector = RankingCollector(config)
    scores, labels = torch.tensor([0.9, 0.2, 0.6, 0.3]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    rows = Interaction({"label": labels})
    collector.eval_batch_collect(scores, rows, torch.tensor([0, 1]), torch.tensor([5, 6]))
    assert ExpectedEvaluator(config).evaluate(collector.get_data_struct()) == {"auc": 0.75}
    assert (collector.values, len(collector.ranks)) == ({}, 0)


def test_every_evaluation_begins_anew_and_what_was_ranked_can_be_forgotten():
    config = options(["MRR"])
    collector, evaluator, data = RankingCollector(config), ExpectedEvaluator(config), different_scores(2)
    first = evaluate(collector, evaluator, *data)
    assert evaluate(collector, evaluator, *data) == first
    assert len(collector.values["mrr@3"]) == len(collector.ranks) == 60
    collector.eval_batch_collect(torch.ones(1, 20), None, torch.tensor([0]), torch.tensor([1]))  # and broken off
    collector.forget()
    found = (collector.values, collector.ranks, collector.n_candidates, collector.n_positives)
    assert [len(part) for part in found] == [0, 0, 0, 0]
    evaluate(collector, evaluator, *data)
    assert len(collector.ranks) == 60


def candidates_of(lists, item_field="item_id"):
    """The interaction of sampled lists: history and item of every candidate, list by list."""
    ids = [[7, 3, 9][i] for i, items in enumerate(lists) for _ in items]
    return Interaction({"history_id": torch.tensor(ids), item_field: torch.tensor([i for one in lists for i in one])})


def test_a_candidate_without_a_score_is_refused():
    lists = [[2, 1, 3], [1, 4]]
    scores = torch.tensor([[NONE, 1.0, 2.0, 0.0, NONE], [NONE, 1.0, NONE, NONE, 0.5]])
    positives = (torch.tensor([0, 1]), torch.tensor([2, 1]))
    collector = RankingCollector(options(["MRR"], ITEM_ID_FIELD="item_id"))
    collector.eval_batch_collect(scores, candidates_of(lists), *positives)
    collector.get_data_struct()
    assert collector.n_candidates.tolist() == [3, 2]
    scores[0, 3] = NONE
    with pytest.raises(UserError, match="the model scored 1 of 5 candidates -inf, .*: scores must be finite"):
        collector.eval_batch_collect(scores, candidates_of(lists), *positives)


def test_in_full_ranking_what_has_no_score_is_no_candidate():
    scores = torch.tensor([[NONE, 1.0, NONE, 0.0], [NONE, NONE, 2.0, 0.5]])
    rows = candidates_of([[1], [2]])
    collector = RankingCollector(options(["MRR"], ITEM_ID_FIELD="item_id"))
    collector.eval_batch_collect(scores, rows, torch.tensor([0, 1]), torch.tensor([1, 2]))
    collector.get_data_struct()
    assert collector.n_candidates.tolist() == [2, 2]


def test_recbole_s_own_evaluator_says_what_the_new_metrics_need():
    config = options(["ImpressionMRR"])
    with pytest.raises(NotImplementedError, match=r"needs trainer.evaluator = ExpectedEvaluator\(config\)"):
        Evaluator(config).evaluate(DataStruct())


def test_registering_twice_is_registering_once():
    from recbole.evaluator import metric_types, metrics_dict, smaller_metrics

    before = dict(metrics_dict), dict(metric_types), list(smaller_metrics)
    register_metrics()
    assert (dict(metrics_dict), dict(metric_types), list(smaller_metrics)) == before


def test_results_are_named_as_recbole_names_them():
    assert result_names(["Recall", "GAUC", "ImpressionAUC", "LogLoss", "GiniIndex"], [3, 5]) == [
        *("recall@3", "recall@5", "gauc", "impressionauc", "logloss", "giniindex@3", "giniindex@5")
    ]


@pytest.mark.parametrize("model", ["Pop", "SASRec"])
@pytest.mark.parametrize("mode", ["uni2", "full"])
def test_recbole_s_trainer_runs_on_it_unchanged(make_config, model, mode):
    metrics = ["MRR", "ItemCoverage", "ImpressionMRR"]
    config = make_config(model, eval_args={"mode": mode}, metrics=metrics, topk=[1, 3], epochs=1, valid_metric="MRR@3")
    train, valid, test = data_preparation(config, get_dataset(get_model(model))(config))
    trainer = get_trainer(get_model(model))(config, get_model(model)(config, train._dataset))
    trainer.eval_collector, trainer.evaluator = RankingCollector(config), ExpectedEvaluator(config)
    best, best_result = trainer.fit(train, valid, saved=False, show_progress=False)
    result = trainer.evaluate(test, load_best_model=False)
    assert list(result) == ["mrr@1", "mrr@3", "itemcoverage@1", "itemcoverage@3", "impressionmrr"]
    assert best == best_result["mrr@3"]
    values = trainer.eval_collector.values
    assert len(values["mrr@3"]) == len(test._dataset)
    assert result["mrr@3"] == round(float(values["mrr@3"].mean()), 4)
    assert trainer.eval_collector.n_positives.tolist() == [1] * len(test._dataset)
