"""Metrics as expectations: against every order there is, scikit-learn, MIND's formulas and closed forms."""

from __future__ import annotations

from itertools import pairwise, permutations
from math import comb, log2

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score, roc_auc_score

from recbole_llmtrsr.evaluation.metrics import EXPECTED, expected_ranks, mean_values, row_values
from recbole_llmtrsr.evaluation.tie_groups import random_ranking, tie_groups

NONE = float("-inf")
TOPK = (1, 2, 3, 4, 5, 6, 9)
exactly = {"rel": 1e-12, "abs": 1e-12}


def groups_of(scores, labels):
    """Scores and labels [n_rows, n_items] of either kind of array."""
    rows, items = np.nonzero(np.asarray(labels))
    return tie_groups(torch.as_tensor(scores), torch.from_numpy(rows), torch.from_numpy(items))


def metrics_of_an_order(hits, topk):
    """All metrics of one ranked list of zeros and ones, spelled out."""
    n, found = sum(hits), {}
    ranks = [place for place, hit in enumerate(hits, start=1) if hit]
    for k in topk:
        top = [rank for rank in ranks if rank <= k]
        best = sum(1 / log2(place + 1) for place in range(1, min(n, k) + 1))
        found[f"recall@{k}"] = len(top) / n
        found[f"precision@{k}"] = len(top) / k
        found[f"hit@{k}"] = float(bool(top))
        found[f"ndcg@{k}"] = sum(1 / log2(rank + 1) for rank in top) / best
        found[f"mrr@{k}"] = 1 / top[0] if top else 0.0
        found[f"map@{k}"] = sum((i + 1) / rank for i, rank in enumerate(top)) / min(n, k)
    pairs = [hits[i] > hits[j] for i in range(len(hits)) for j in range(i + 1, len(hits)) if hits[i] != hits[j]]
    found["gauc"] = found["impressionauc"] = sum(pairs) / len(pairs) if pairs else float("nan")
    found["impressionmrr"] = sum(1 / rank for rank in ranks) / n
    found["rank"] = sum(ranks) / n
    return found


def mean_over_all_orders(scores, labels, topk):
    orders = [
        metrics_of_an_order([labels[i] for i in order], topk)
        for order in permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    return {name: sum(one[name] for one in orders) / len(orders) for name in orders[0]}


@pytest.mark.parametrize("seed", range(6))
def test_they_are_the_means_over_all_orders_of_equal_scores(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (10, 6)).astype(float)
    if seed == 0:
        scores[:] = 1.0
    labels = np.argsort(rng.random((10, 6)), axis=1) < rng.integers(1, 7, (10, 1))
    groups = groups_of(scores, labels)
    values = {**row_values(groups, EXPECTED, TOPK), "rank": expected_ranks(groups)}
    for row in range(10):
        expected = mean_over_all_orders(scores[row], labels[row].tolist(), TOPK)
        found = {name: of_rows[row] for name, of_rows in values.items()}
        assert found == pytest.approx(expected, nan_ok=True, **exactly)


def test_a_list_of_two_ties_by_hand():
    # Equal: the positive and one other, behind one better: rank 2 or 3.
    values = row_values(groups_of([[5.0, 4.0, 4.0, 1.0]], [[0, 1, 0, 0]]), EXPECTED, [1, 2, 3])
    assert {name: float(of_rows[0]) for name, of_rows in values.items()} == pytest.approx(
        {
            **{f"{name}@1": 0.0 for name in ("recall", "precision", "hit", "ndcg", "mrr", "map")},
            **{"recall@2": 1 / 2, "recall@3": 1.0, "hit@2": 1 / 2, "hit@3": 1.0},
            **{"precision@2": 1 / 4, "precision@3": 1 / 3},
            **{"ndcg@2": 1 / log2(3) / 2, "ndcg@3": (1 / log2(3) + 1 / 2) / 2},
            **{"mrr@2": 1 / 4, "mrr@3": 5 / 12, "map@2": 1 / 4, "map@3": 5 / 12},
            **{"gauc": 1 / 2, "impressionauc": 1 / 2, "impressionmrr": 5 / 12},
        },
        **exactly,
    )


def test_names_come_in_the_order_asked_for():
    values = row_values(random_ranking([4], [1]), ["mrr", "gauc", "recall"], [3, 1])
    assert list(values) == ["mrr@3", "mrr@1", "gauc", "recall@3", "recall@1"]


def test_random_ranking_among_21_has_the_metrics_of_the_paper_s_protocol():
    chance = row_values(random_ranking([21], [1]), ["recall", "mrr", "ndcg", "gauc"], [3, 5, 10])
    harmonic = {3: 11 / 6, 5: 137 / 60, 10: 7381 / 2520}
    for k in (3, 5, 10):
        assert chance[f"recall@{k}"][0] == pytest.approx(k / 21, **exactly)
        assert chance[f"mrr@{k}"][0] == pytest.approx(harmonic[k] / 21, **exactly)
        gain = sum(1 / log2(place + 1) for place in range(1, k + 1))
        assert chance[f"ndcg@{k}"][0] == pytest.approx(gain / 21, **exactly)
    assert chance["gauc"][0] == 0.5
    assert [round(float(chance[name][0]), 3) for name in ("recall@3", "recall@5", "recall@10")] == [0.143, 0.238, 0.476]
    assert [round(float(chance[name][0]), 3) for name in ("mrr@3", "mrr@5", "mrr@10")] == [0.087, 0.109, 0.139]


def test_a_tie_of_fifty_thousand_has_its_hypergeometric_values():
    n, p, k = 50_000, 7, 10
    values = row_values(random_ranking([n], [p]), EXPECTED, [k])
    miss = [comb(n - p, j) / comb(n, j) for j in range(k + 1)]
    assert values["hit@10"][0] == pytest.approx(1 - miss[k], rel=1e-9)
    assert values["mrr@10"][0] == pytest.approx(sum((miss[j - 1] - miss[j]) / j for j in range(1, k + 1)), rel=1e-9)
    assert values["recall@10"][0] == pytest.approx(k / n, **exactly)
    pairs = sum(p / n * (1 + (j - 1) * (p - 1) / (n - 1)) / j for j in range(1, k + 1)) / p
    assert values["map@10"][0] == pytest.approx(pairs, **exactly)
    assert values["impressionmrr"][0] == pytest.approx(sum(1 / j for j in range(1, n + 1)) / n, **exactly)
    assert values["impressionauc"][0] == 0.5


def test_a_lone_positive_behind_fifty_thousand_keeps_its_reciprocal_rank():
    scores = torch.arange(50_000.0)[None]
    groups = tie_groups(scores, torch.tensor([0]), torch.tensor([1]))
    values = row_values(groups, ["impressionmrr", "hit"], [10, 49_999])
    assert values["impressionmrr"][0] == pytest.approx(1 / 49_999, rel=1e-9)
    assert [values["hit@10"][0], values["hit@49999"][0]] == [0.0, 1.0]


def with_many_ties(n_positives):
    rng = np.random.default_rng(n_positives)
    scores = rng.integers(0, 7, (40, 30)).astype(float)
    return scores, (np.argsort(rng.random((40, 30)), axis=1) < n_positives).astype(int)


@pytest.mark.parametrize("n_positives", [1, 2, 9])
def test_ndcg_and_auc_equal_scikit_learn_under_ties(n_positives):
    scores, labels = with_many_ties(n_positives)
    values = row_values(groups_of(scores, labels), ["ndcg", "gauc", "impressionauc"], [3, 5, 10, 30])
    for row in range(40):
        for k in (3, 5, 10, 30):
            expected = ndcg_score(labels[row : row + 1], scores[row : row + 1], k=k)
            assert values[f"ndcg@{k}"][row] == pytest.approx(expected, **exactly)
        assert values["gauc"][row] == pytest.approx(roc_auc_score(labels[row], scores[row]), **exactly)
    assert np.array_equal(values["impressionauc"], values["gauc"])


@pytest.mark.parametrize("n_positives", [1, 2, 9])
def test_impressions_have_the_metrics_of_the_mind_leaderboard(n_positives):
    rng = np.random.default_rng(n_positives)
    scores, labels = rng.random((20, 30)), with_many_ties(n_positives)[1][:20]
    values = row_values(groups_of(scores, labels), ["impressionauc", "impressionmrr", "ndcg"], [5, 10])
    for row in range(20):
        ranked = labels[row][np.argsort(-scores[row])]
        ideal = np.sort(labels[row])[::-1]
        mrr = np.sum(ranked / np.arange(1, 31)) / np.sum(ranked)
        assert values["impressionmrr"][row] == pytest.approx(mrr, **exactly)
        for k in (5, 10):
            gain, best = (np.sum((2.0 ** y[:k] - 1) / np.log2(np.arange(k) + 2)) for y in (ranked, ideal))
            assert values[f"ndcg@{k}"][row] == pytest.approx(gain / best, **exactly)
        assert values["impressionauc"][row] == pytest.approx(roc_auc_score(labels[row], scores[row]), **exactly)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    scores, labels = with_many_ties(4)
    labels[::2] = with_many_ties(1)[1][::2]
    together = row_values(groups_of(scores, labels), EXPECTED, TOPK)
    for row in range(40):
        alone = row_values(groups_of(scores[row : row + 1], labels[row : row + 1]), EXPECTED, TOPK)
        assert {name: v[row] for name, v in together.items()} == {name: v[0] for name, v in alone.items()}


def test_a_row_of_positives_alone_is_perfect_and_has_no_auc():
    values = row_values(groups_of([[2.0, 1.0, NONE]], [[1, 1, 0]]), EXPECTED, [1, 2, 5])
    assert np.isnan(values.pop("gauc")[0])
    assert np.isnan(values.pop("impressionauc")[0])
    assert {name: float(of_rows[0]) for name, of_rows in values.items()} == pytest.approx(
        {
            **{f"{name}@{k}": 1.0 for name in ("hit", "ndcg", "mrr", "map") for k in (1, 2, 5)},
            **{"recall@1": 0.5, "recall@2": 1.0, "recall@5": 1.0},
            **{"precision@1": 1.0, "precision@2": 1.0, "precision@5": 0.4, "impressionmrr": 0.75},
        },
        **exactly,
    )


def test_ranks_are_expected_and_averaged_over_the_positives():
    groups = groups_of(
        [[3.0, 3.0, 2.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]], [[1, 0, 0, 1, 0, 0], [1] + [0] * 5]
    )
    assert expected_ranks(groups).tolist() == [(1.5 + 5) / 2, 6.0]


def test_means_leave_out_unknown_rows_and_gauc_weighs_rows_by_their_positives():
    assert np.isnan(mean_values({"gauc": np.array([np.nan])}, [2])["gauc"])
    of_rows = np.array([1.0, 0.5, np.nan])
    means = mean_values({"gauc": of_rows, "impressionauc": of_rows, "mrr@3": np.array([0.0, 0.5, 1.0])}, [3, 1, 5])
    assert means == {"gauc": 0.875, "impressionauc": 0.75, "mrr@3": 0.5}
