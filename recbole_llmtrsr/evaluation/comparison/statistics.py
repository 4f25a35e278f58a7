"""Intervals and paired tests whose unit is the user: the rows of one user are not independent.

With s_u the weighted sum of a metric over the rows of user u, and n_u the sum of the weights,

    mean      = sum_u s_u / sum_u n_u
    bootstrap = sum_u w_u s_u / sum_u w_u n_u,        w ~ Multinomial(n_users; 1/n_users, ..., 1/n_users)
    sign flip = sum_u e_u d_u / sum_u n_u,            e_u = +1 or -1, d_u the difference of two models' s_u

All columns (models, seeds' means, ablations, metrics) share the same w and e, so that differences of resampled means
are paired. Intervals are percentiles: they stay within a metric's range, treat means and differences alike, and are
defined where all users agree; with hundreds of users the bias that BCa corrects is far below the interval's width, and
its jackknife would cost a pass per user.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 15; Smucker, Allan and
Carterette, "A comparison of statistical significance tests for information retrieval evaluation" (CIKM 2007); Holm, "A
simple sequentially rejective multiple test procedure" (1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.tokens import as_tokens, ranked

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
_DRAWS_AT_ONCE = 2**21  # bounds the temporary arrays to some tens of MiB
_DECIMALS = 9  # of intervals: matrix products differ in their last bits from one call to the next
_FLIPS_PER_PAIR = 1_000
_MOST_SIGNS = 2 * 10**8  # of a comparison's flips: some seconds
_ROUNDING = 1e-12  # flips that are equal but for the order of a sum are as extreme as each other


@dataclass(frozen=True)
class Estimate:
    """A mean over all rows and seeds, with its error.

    Attributes:
        low: lower end of the 95 % interval over users; nan where there are too few users for one.
        high: upper end, likewise.
        spread: standard deviation of the seeds' means; None with one seed.
    """

    mean: float
    low: float
    high: float
    spread: float | None


@dataclass(frozen=True)
class UserSums:
    """Rows summed by user, in the order of the users' names.

    Attributes:
        sums: weighted sums of the values. [n_users, n_columns, n_metrics]
        weights: sums of the weights. [n_users, n_metrics]
    """

    sums: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def means(self) -> Floats:
        """Weighted means over all rows; nan where all weights are 0. [n_columns, n_metrics]"""
        return ratio(self.sums.sum(axis=0), self.weights.sum(axis=0))


def user_sums(users: Sequence[str], values: Floats, weights: Floats) -> UserSums:
    """Sum the rows of each user.

    Args:
        users: of each row. [n_rows]
        values: [n_rows, n_columns, n_metrics]; any number where the weight is 0.
        weights: of a row in a metric's mean. [n_rows, n_metrics]
    """
    names, of_row = ranked(as_tokens(users))
    sums, totals = np.zeros((len(names), *values.shape[1:])), np.zeros((len(names), weights.shape[1]))
    np.add.at(sums, of_row, np.where(weights[:, None] > 0, values * weights[:, None], 0.0))
    np.add.at(totals, of_row, weights)
    return UserSums(sums, totals)


def bootstrap(users: UserSums, n_resamples: int, seed: int = 0) -> Floats:
    """Means of resampled users; nan where a resample holds no weight. [n_resamples, n_columns, n_metrics]"""
    n_users, generator = len(users), np.random.default_rng(seed)
    flat = users.sums.reshape(n_users, -1)
    found = []
    for n in _chunks(n_resamples, max(flat.shape)):
        drawn = generator.integers(n_users, size=(n, n_users)) + np.arange(n)[:, None] * n_users
        counts = np.bincount(drawn.reshape(-1), minlength=n * n_users).reshape(n, n_users).astype(np.float64)
        sums = (counts @ flat).reshape(n, *users.sums.shape[1:])
        found.append(ratio(sums, (counts @ users.weights)[:, None]))
    return np.concatenate(found)


def n_sign_flips(n_users: int, n_pairs: int, n_resamples: int) -> int:
    """The number of sign flips, at least n_resamples, that lets p values stay small after Holm's correction.

    A p is at least 1 / (n_flips + 1), so one that is corrected for n_pairs is at least n_pairs / (n_flips + 1). That is
    0.001, unless n_users * n_pairs passes 200,000: the number of signs is bounded, and the least corrected p grows to
    n_users * n_pairs / 2e8.
    """
    return max(n_resamples, min(_FLIPS_PER_PAIR * n_pairs, _MOST_SIGNS // n_users))


def p_values(users: UserSums, pairs: Sequence[tuple[int, int]], n_flips: int, seed: int = 0) -> Floats:
    """Two-sided p of the differences of pairs of columns, from random signs of the users' differences.

    The observed differences count as one more flip, so that no p is below 1 / (n_flips + 1). A p is meaningless where a
    column's sums are nan. [n_pairs, n_metrics]
    """
    n_users, generator = len(users), np.random.default_rng(seed)
    flat, means, totals = users.sums.reshape(n_users, -1), users.means, users.weights.sum(axis=0)
    least = [np.abs(means[a] - means[b]) - _ROUNDING for a, b in pairs]
    as_extreme = np.zeros((len(pairs), users.sums.shape[2]))
    for n in _chunks(n_flips, max(flat.shape)):
        signs = generator.integers(2, size=(n, n_users), dtype=np.int8) * 2.0 - 1
        flipped = ratio((signs @ flat).reshape(n, *users.sums.shape[1:]), totals)
        # The difference of two flipped columns is the flipped difference.
        for i, (a, b) in enumerate(pairs):
            as_extreme[i] += (np.abs(flipped[:, a] - flipped[:, b]) >= least[i]).sum(axis=0)
    return (as_extreme + 1) / (n_flips + 1)


def estimate(
    mean: float, resampled: Floats, n_users: int, spread: float | None = None, least_users: int = 2
) -> Estimate:
    """A mean with its percentile interval, from the means of resampled users [n_resamples].

    Fewer than ``least_users`` users have no interval.
    """
    known = resampled[np.isfinite(resampled)]
    if n_users < least_users or not len(known):
        return Estimate(float(mean), float("nan"), float("nan"), spread)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).round(_DECIMALS)
    return Estimate(float(mean), float(low), float(high), spread)


def spread_of(means: Sequence[float] | Floats) -> float | None:
    """Sample standard deviation of the seeds' means; None with one seed."""
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: the smallest of m times m, the next times m - 1, none below its predecessor."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def ratio(sums: Floats, weights: Floats) -> Floats:
    """Sums over their weights; nan where the weight is 0."""
    return np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)


def _chunks(n: int, n_numbers: int) -> Iterator[int]:
    """Sizes of the parts in which n draws of n_numbers each are made, so that memory stays bounded."""
    at_once = max(1, _DRAWS_AT_ONCE // n_numbers)
    for begin in range(0, n, at_once):
        yield min(at_once, n - begin)
