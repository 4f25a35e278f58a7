from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_llmtrsr.evaluation.comparison.comparison import from_json, make_comparison
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.evaluation.per_history import per_history
from recbole_llmtrsr.evaluation.result import write_json

N = 200


def table(
    values: np.ndarray, users: list[str] | None = None, trimmed: list[bool] | None = None, **metrics
) -> pd.DataFrame:
    n = len(values)
    return per_history(
        users or [f"u{i}" for i in range(n)],
        [3 if i < n // 2 else 30 for i in range(n)],
        ["i"] * n,
        {"mrr@3": values, **metrics},
        np.ones(n),
        np.full(n, 6),
        np.ones(n, dtype=int),
        {"target_popularity": [0] * (n // 4) + [7] * (n - n // 4), "prompt_trimmed": trimmed},
    )


def run(label: str, seed: int, ranked: pd.DataFrame | None, ablations=None, **test_result) -> Run:
    result = {"dataset": "tiny", "test_result": test_result, "candidates": {"test": {"hash": "abc"}}}
    return Run(label, seed, result, ranked, ablations or {})


def values(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).random(N) + shift


def test_runs_of_one_label_are_one_row_in_the_order_of_the_runs():
    comparison = make_comparison(
        [run("B", 2, table(values(0))), run("A", 1, table(values(1))), run("B", 1, table(values(2)))], 100
    )
    assert comparison.dataset == "tiny"
    assert [(row.label, row.seeds) for row in comparison.rows] == [("B", (2, 1)), ("A", (1,))]
    assert [len(row.results) for row in comparison.rows] == [2, 1]


def test_a_user_is_averaged_over_seeds_before_users_are_resampled():
    one, two = values(0), values(1)
    apart = make_comparison([run("A", 1, table(one)), run("A", 2, table(two))], 2000).rows[0].metrics["mrr@3"]
    together = make_comparison([run("A", 1, table((one + two) / 2))], 2000).rows[0].metrics["mrr@3"]
    assert (apart.mean, apart.low, apart.high) == pytest.approx((together.mean, together.low, together.high))
    assert apart.spread == pytest.approx(abs(one.mean() - two.mean()) / math.sqrt(2))
    assert together.spread is None


def test_the_interval_of_a_mean_is_about_two_standard_errors_each_way():
    one = values(0)
    found = make_comparison([run("A", 1, table(one))], 4000).rows[0].metrics["mrr@3"]
    error = 1.96 * one.std(ddof=1) / math.sqrt(N)
    assert found.mean == pytest.approx(one.mean())
    assert (found.low, found.high) == pytest.approx((one.mean() - error, one.mean() + error), abs=0.15 * error)


def test_a_pair_is_tested_row_by_row():
    one = values(0)
    other = one - 0.02 + 0.001 * values(1)  # all users lose a little: hidden by the noise between users
    (test,) = make_comparison([run("A", 1, table(one)), run("B", 1, table(other))], 999).tests
    assert (test.first, test.second, test.metric) == ("A", "B", "mrr@3")
    assert test.difference.mean == pytest.approx((one - other).mean())
    assert 0.0190 < test.difference.low < test.difference.mean < test.difference.high < 0.0200
    assert test.p == test.p_holm == 1 / 1001
    assert stats.ttest_ind(one, other).pvalue > 0.3


def test_several_rows_of_a_user_count_as_one_witness():
    noise = np.random.default_rng(2).normal(0.03, 0.1, size=20)
    users = [f"u{i // 10}" for i in range(N)]
    by_user = (np.repeat(noise, 10), users)
    by_row = (np.repeat(noise, 10), None)
    p = {}
    for name, (difference, named) in {"user": by_user, "row": by_row}.items():
        runs = [run("A", 1, table(values(0), named)), run("B", 1, table(values(0) - difference, named))]
        p[name] = make_comparison(runs, 2000).tests[0].p
    assert p["row"] < 0.01 < p["user"]
    assert p["user"] == pytest.approx(stats.ttest_1samp(noise, 0).pvalue, abs=0.03)


def test_p_values_are_corrected_for_all_pairs_of_a_metric():
    runs = [run(label, 1, table(values(0, shift=0.1 * i) + 0.3 * values(i + 1))) for i, label in enumerate("ABC")]
    tests = make_comparison(runs, 999).tests
    assert [(test.first, test.second) for test in tests] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [test.p for test in tests] == [1 / 3001] * 3
    assert [test.p_holm for test in tests] == pytest.approx([3 / 3001] * 3)


def test_the_spread_of_a_difference_is_over_seeds_that_both_have():
    a = {1: values(0), 2: values(1), 3: values(2)}
    b = {3: values(3), 1: values(4)}
    runs = [run("A", s, table(v)) for s, v in a.items()] + [run("B", s, table(v)) for s, v in b.items()]
    (test,) = make_comparison(runs, 100).tests
    expected = np.std([a[s].mean() - b[s].mean() for s in (1, 3)], ddof=1)
    assert test.difference.spread == pytest.approx(expected)
    (test,) = make_comparison([runs[1], runs[3]], 100).tests
    assert test.difference.spread is None


def test_groups_hold_the_means_of_their_rows():
    one = values(0)
    trimmed = [i % 4 == 0 for i in range(N)]
    row, other = make_comparison([run("A", 1, table(one, trimmed=trimmed)), run("Pop", 1, table(values(1)))], 200).rows
    found = {(group.kind, group.name): group for group in row.groups}
    expected = {
        ("history length", "1-5 events"): one[:100],
        ("history length", "21-50 events"): one[100:],
        ("target popularity", "cold"): one[:50],
        ("target popularity", "5-19 events"): one[50:],
        ("prompt", "whole"): one[[i for i in range(N) if i % 4]],
        ("prompt", "trimmed"): one[::4],
    }
    assert {key: group.n for key, group in found.items()} == {key: len(part) for key, part in expected.items()}
    for key, part in expected.items():
        estimate = found[key].metrics["mrr@3"]
        assert estimate.mean == pytest.approx(part.mean()), key
        assert estimate.low < part.mean() < estimate.high
    assert {group.kind for group in other.groups} == {"history length", "target popularity"}


def test_random_ranking_is_that_of_each_group():
    ranked = table(values(0), trimmed=[i < 120 for i in range(N)])  # 100 short histories
    ranked.loc[:99, "n_candidates"], ranked.loc[:99, "n_positives"] = 3, 2
    (row,) = make_comparison([run("A", 1, ranked)], 100).rows
    short, long = (2 / 3 + 1 / 3 * 1 / 2), (1 + 1 / 2 + 1 / 3) / 6  # the first of two in three; one in six, cut at 3
    known = {group.name: group.random["mrr@3"] for group in row.groups if group.random}
    assert known == pytest.approx(
        {"1-5 events": short, "21-50 events": long, "cold": short, "5-19 events": (50 * short + 100 * long) / 150}
    )


def test_a_group_of_few_users_has_means_without_an_interval():
    # The prompts of 19 users were trimmed, in 38 rows; those of 20 others have no known history of it.
    users = [f"u{i // 2}" for i in range(N)]
    metrics = {"impressionauc": np.where(np.arange(N) < 40, values(1), np.nan)}
    row = make_comparison([run("A", 1, table(values(0), users, [i < 38 for i in range(N)], **metrics))], 200).rows[0]
    found = {group.name: group for group in row.groups if group.kind == "prompt"}
    small = found["trimmed"].metrics["mrr@3"]
    assert found["trimmed"].n == 38
    assert small.mean == pytest.approx(values(0)[:38].mean())
    assert (math.isnan(small.low), math.isnan(small.high)) == (True, True)
    assert math.isfinite(found["whole"].metrics["mrr@3"].low)
    # A row of one more user has this metric in the other group.
    assert math.isnan(found["whole"].metrics["impressionauc"].low)
    assert math.isfinite(row.metrics["impressionauc"].low)


def test_all_rows_of_few_users_keep_their_interval():
    row = make_comparison([run("A", 1, table(values(0)[:19]))], 200).rows[0]
    assert row.metrics["mrr@3"].low < row.metrics["mrr@3"].mean < row.metrics["mrr@3"].high
    assert all(math.isnan(group.metrics["mrr@3"].low) for group in row.groups)


def test_an_ablation_is_a_paired_change():
    one = values(0)
    ablated = run("A", 1, table(one), {"no summary": table(one - 0.1), "shuffled history": table(one[::-1])})
    drop, shuffled = make_comparison([ablated], 200).rows[0].ablations
    assert drop.name == "no summary"
    found = drop.metrics["mrr@3"]
    assert (found.mean, found.low, found.high) == pytest.approx((-0.1, -0.1, -0.1))
    assert shuffled.metrics["mrr@3"].low < 0 < shuffled.metrics["mrr@3"].high


def test_random_ranking_is_told_for_what_can_be_counted():
    ranked = table(values(0), **{"recall@3": values(1), "impressionauc": values(2), "novelty": values(3)})
    comparison = make_comparison([run("A", 1, ranked)], 100)
    assert comparison.random == pytest.approx(
        {"mrr@3": (1 + 1 / 2 + 1 / 3) / 6, "recall@3": 3 / 6, "impressionauc": 0.5}
    )


def test_metrics_that_are_no_means_over_rows_have_no_interval():
    runs = [run("A", s, table(values(s)), **{"itemcoverage@3": 0.2 * s, "mrr@3": 0.1234}) for s in (1, 2)]
    (row,) = make_comparison(runs, 100).rows
    assert list(row.metrics) == ["itemcoverage@3", "mrr@3"]
    coverage = row.metrics["itemcoverage@3"]
    assert coverage.mean == pytest.approx(0.3)
    assert coverage.spread == pytest.approx(0.2 / math.sqrt(2))
    assert math.isnan(coverage.low)
    # Of the means over rows the exact one counts, not the rounded one of the result.
    assert row.metrics["mrr@3"].mean == pytest.approx((values(1).mean() + values(2).mean()) / 2)


def test_a_metric_that_one_label_did_not_measure_is_tested_among_the_others():
    runs = [
        run("A", 1, table(values(0), **{"ndcg@3": values(1)})),
        run("B", 1, table(values(2))),
        run("C", 1, table(values(3), **{"ndcg@3": values(4)})),
    ]
    comparison = make_comparison(runs, 100)
    assert [list(row.metrics) for row in comparison.rows] == [["mrr@3", "ndcg@3"], ["mrr@3"], ["mrr@3", "ndcg@3"]]
    assert [(t.first, t.second) for t in comparison.tests if t.metric == "ndcg@3"] == [("A", "C")]


def test_runs_that_ranked_nothing_have_means_alone():
    comparison = make_comparison([run("A", 1, None, rmse=1.5), run("B", 1, None)], 100)
    assert comparison.rows[0].metrics["rmse"].mean == 1.5
    assert comparison.rows[1].metrics == {}
    assert (comparison.tests, comparison.random) == ((), None)


def test_the_same_runs_give_the_same_comparison_in_whatever_order_they_and_their_rows_come():
    shuffled = [table(values(i)).sample(frac=1, random_state=i).reset_index(drop=True) for i in range(3)]
    runs = [run(label, 1, table(values(i))) for i, label in enumerate("ABC")]
    one = make_comparison(runs, 300)
    again = make_comparison([run(label, 1, shuffled[i]) for i, label in enumerate("ABC")], 300)
    turned = make_comparison(runs[::-1], 300)
    assert [(row.metrics, row.groups) for row in one.rows] == [(row.metrics, row.groups) for row in again.rows]
    assert [(row.metrics, row.groups) for row in one.rows] == [(row.metrics, row.groups) for row in turned.rows[::-1]]
    assert one.tests == again.tests
    assert sorted(test.p for test in one.tests) == sorted(test.p for test in turned.tests)


def test_a_comparison_is_read_as_it_was_written(tmp_path):
    one = values(0)
    runs = [
        run("LLMTRSR@recurrent", s, table(one + s, trimmed=[True] * N), {"no summary": table(one)}, **{"rmse": 0.5})
        for s in (1, 2)
    ]
    comparison = make_comparison([*runs, run("Pop", 1, table(values(3)))], 100)
    write_json(tmp_path / "c.json", asdict(comparison))
    again = from_json(json.loads((tmp_path / "c.json").read_text()))
    # nan differs from itself: compare what is written of it.
    write_json(tmp_path / "d.json", asdict(again))
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "d.json").read_bytes()
    assert again.rows[0].groups == comparison.rows[0].groups
    assert again.rows[0].ablations == comparison.rows[0].ablations
    assert (again.tests, again.random) == (comparison.tests, comparison.random)
    assert again.rows[1].metrics == comparison.rows[1].metrics
    assert again.rows[0].seeds == (1, 2)
    assert math.isnan(again.rows[0].metrics["rmse"].low)


def test_a_file_that_does_not_tell_random_ranking_by_group_is_read(tmp_path):
    content = asdict(make_comparison([run("Pop", 1, table(values(3)))], 100))
    for group in content["rows"][0]["groups"]:
        del group["random"]
    assert [group.random for group in from_json(content).rows[0].groups] == [{}] * 4
