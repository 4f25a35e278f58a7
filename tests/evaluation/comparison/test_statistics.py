from __future__ import annotations

import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy import stats

from recbole_llmtrsr.evaluation.comparison.statistics import (
    bootstrap,
    estimate,
    holm,
    n_sign_flips,
    p_values,
    spread_of,
    user_sums,
)


def one_column(users: list[str], values: list[float], weights: list[float] | None = None):
    weights = [1.0] * len(values) if weights is None else weights
    return user_sums(users, np.array(values)[:, None, None], np.array(weights)[:, None])


def p_of(differences: list[float], n_flips: int, users: list[str] | None = None, seed: int = 0) -> float:
    """The p of a column against one of zeros."""
    users = users or [str(i) for i in range(len(differences))]
    columns = np.stack([differences, np.zeros(len(differences))], axis=1)[:, :, None]
    sums = user_sums(users, columns, np.ones((len(differences), 1)))
    return float(p_values(sums, [(0, 1)], n_flips, seed)[0, 0])


def test_rows_are_summed_by_user_and_a_mean_is_that_of_rows():
    sums = one_column(["b", "a", "b", "b"], [1, 10, 2, 3])
    assert sums.sums[:, 0, 0].tolist() == [10, 6]
    assert sums.weights[:, 0].tolist() == [1, 3]
    assert sums.means.tolist() == [[4.0]]


def test_a_row_of_weight_0_counts_nowhere_even_if_its_value_is_unknown():
    assert one_column(["a", "b", "c"], [1, math.nan, 4], [1, 0, 2]).means.tolist() == [[3.0]]
    assert math.isnan(one_column(["a"], [math.nan], [0]).means[0, 0])
    assert math.isnan(one_column(["a", "b"], [1, math.nan]).means[0, 0])


def test_a_resample_takes_whole_users():
    sums = one_column(["a", "a", "b"], [0, 0, 1])
    found = {round(float(mean), 12) for mean in bootstrap(sums, 200)[:, 0, 0]}
    # Twice a (four rows of 0), a and b (two rows of 0, one of 1), twice b.
    assert found == {0.0, round(1 / 3, 12), 1.0}


def test_users_with_many_rows_make_the_interval_wider_than_their_rows_would():
    generator = np.random.default_rng(1)
    values = np.repeat(generator.random(50), 20)  # all rows of a user agree
    users = [f"u{i // 20}" for i in range(1000)]
    by_user = one_column(users, values.tolist())
    by_row = one_column([f"r{i}" for i in range(1000)], values.tolist())
    widths = []
    for sums in (by_user, by_row):
        found = estimate(0.5, bootstrap(sums, 2000)[:, 0, 0], len(sums))
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(20), rel=0.1)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(3).exponential(size=300)
    sums = one_column([f"u{i}" for i in range(300)], values.tolist())
    ours = estimate(values.mean(), bootstrap(sums, 20_000)[:, 0, 0], 300)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(4), vectorized=True
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator, covered = np.random.default_rng(5), 0
    for _ in range(400):
        values = (generator.random(200) < 0.3).astype(float)
        sums = one_column([str(i) for i in range(200)], values.tolist())
        found = estimate(values.mean(), bootstrap(sums, 300)[:, 0, 0], 200)
        covered += found.low <= 0.3 <= found.high
    assert 0.91 <= covered / 400 <= 0.98


def test_the_same_rows_in_another_order_give_the_same_resamples():
    one, other = one_column(["a", "b", "c"], [1, 2, 4]), one_column(["c", "a", "b"], [4, 1, 2])
    assert np.array_equal(bootstrap(one, 50), bootstrap(other, 50))
    assert p_of([1, 2, 4], 50, ["a", "b", "c"]) == p_of([4, 1, 2], 50, ["c", "a", "b"])
    assert p_of([1, 2, 4], 50) != p_of([1, 2, 4], 50, seed=1)
    assert not np.array_equal(bootstrap(one, 50), bootstrap(one, 50, seed=1))


def test_columns_meet_the_same_resamples():
    values = np.random.default_rng(0).random((40, 1, 1))
    sums = user_sums([str(i) for i in range(40)], np.concatenate([values, values + 0.25], axis=1), np.ones((40, 1)))
    resampled = bootstrap(sums, 100)
    assert resampled[:, 1, 0] - resampled[:, 0, 0] == pytest.approx(np.full(100, 0.25))


def test_too_few_users_have_no_interval():
    resampled = np.array([0.25, 0.75])
    alone = estimate(0.5, resampled, n_users=1)
    assert (alone.mean, math.isnan(alone.low), math.isnan(alone.high)) == (0.5, True, True)
    assert math.isnan(estimate(0.5, resampled, n_users=19, least_users=20).low)
    assert estimate(0.5, resampled, n_users=20, least_users=20).high == pytest.approx(0.7375)


def test_users_who_agree_have_an_interval_of_one_point():
    found = estimate(1.0, bootstrap(one_column(["a", "b", "c"], [1, 1, 1]), 100)[:, 0, 0], 3)
    assert (found.mean, found.low, found.high, found.spread) == (1.0, 1.0, 1.0, None)


def test_the_spread_is_the_deviation_of_a_sample():
    assert spread_of([1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert spread_of([0.4]) is None


def test_the_test_is_that_of_scipy():
    differences = np.random.default_rng(7).normal(0.15, 1, size=60)
    ours = p_of(differences.tolist(), 20_000)
    theirs = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(8),
        vectorized=True,
    ).pvalue
    assert 0.05 < theirs < 0.95
    assert ours == pytest.approx(theirs, abs=0.02)


def test_five_users_who_all_prefer_one_model_give_the_p_of_ten_flips():
    # All signs alike: 2 of 2**5 flips are as extreme.
    assert p_of([1, 2, 3, 4, 5], 50_000) == pytest.approx(2 / 32, abs=0.005)


def test_p_is_never_0_and_1_without_a_difference():
    assert p_of([1.0] * 100, 999) == 1 / 1000
    assert p_of([0.0] * 100, 999) == 1.0


def test_sums_that_differ_in_their_last_bits_are_equally_extreme():
    # 0.1 + 0.2 and 0.3 are one difference, in whatever order they are summed.
    tenths = [1, 2, 3, -1, 4, 2, -3, 1, 3, -2]
    flipped = [abs(sum(e * d for e, d in zip(signs, tenths))) for signs in product([1, -1], repeat=len(tenths))]
    assert sum(one >= sum(tenths) for one in flipped) == 254
    assert sum(one > sum(tenths) for one in flipped) == 156
    assert p_of([d / 10 for d in tenths], 50_000) == pytest.approx(254 / 1024, abs=0.007)


def test_pairs_and_metrics_are_tested_apart_with_the_same_signs():
    generator = np.random.default_rng(2)
    values = generator.normal(size=(30, 3, 2)) + np.array([[0.0, 0.0], [0.4, 0.0], [0.0, 0.5]])
    weights = np.ones((30, 2))
    users = [str(i) for i in range(30)]
    together = p_values(user_sums(users, values, weights), [(0, 1), (0, 2), (2, 1)], 500)
    for i, (a, b) in enumerate([(0, 1), (0, 2), (2, 1)]):
        for j in range(2):
            assert together[i, j] == p_of((values[:, a, j] - values[:, b, j]).tolist(), 500, users)
    assert len(set(together.ravel().tolist())) == 6


def test_flips_drawn_in_parts_are_those_drawn_at_once(monkeypatch):
    differences = np.random.default_rng(4).normal(0.2, 1, size=30).tolist()
    at_once = p_of(differences, 400)
    monkeypatch.setattr("recbole_llmtrsr.evaluation.comparison.statistics._DRAWS_AT_ONCE", 4 * 30)
    assert 0.1 < at_once < 0.9
    assert p_of(differences, 400) == at_once


@pytest.mark.parametrize(
    ("n_users", "n_pairs", "n_resamples", "expected"),
    [
        (500, 1, 2_000, 2_000),
        (500, 105, 2_000, 105_000),
        (3_000, 105, 2_000, 66_666),
        (1_000_000, 105, 2_000, 2_000),
        (500, 3, 10_000, 10_000),
    ],
)
def test_flips_grow_with_the_pairs_until_there_are_too_many_signs(n_users, n_pairs, n_resamples, expected):
    assert n_sign_flips(n_users, n_pairs, n_resamples) == expected


def test_certain_differences_of_many_pairs_stay_certain_when_corrected():
    # 15 models without overlap: with 2,000 flips the least corrected p would be 105 / 2,001.
    values = np.random.default_rng(0).random((100, 15, 1)) * 0.01 + np.arange(15)[:, None]
    sums = user_sums([str(i) for i in range(100)], values, np.ones((100, 1)))
    pairs = [(a, b) for a in range(15) for b in range(a)]
    corrected = holm(p_values(sums, pairs, n_sign_flips(100, len(pairs), 2_000))[:, 0])
    assert len(corrected) == 105
    assert max(corrected) < 0.001
    assert min(holm(p_values(sums, pairs, 2_000)[:, 0])) > 0.05


def test_without_a_difference_every_p_is_as_likely():
    generator = np.random.default_rng(11)
    found = [p_of(generator.normal(size=40).tolist(), 199) for _ in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_holm_corrects_the_smallest_most():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_a_hundred_thousand_users_need_no_gigabytes():
    values = np.random.default_rng(0).random((100_000, 1, 9))
    sums = user_sums([str(i) for i in range(100_000)], values, np.ones((100_000, 9)))
    tracemalloc.start()
    bootstrap(sums, 200)
    p_values(sums, [(0, 0)], 200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20
