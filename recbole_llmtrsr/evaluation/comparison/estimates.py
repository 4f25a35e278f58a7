"""Estimates from the shared rows: the values of each row are averaged over seeds first, then users are resampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.evaluation.comparison.shared_rows import SharedRows
from recbole_llmtrsr.evaluation.comparison.statistics import (
    Estimate,
    Floats,
    bootstrap,
    estimate,
    holm,
    n_sign_flips,
    p_values,
    ratio,
    spread_of,
    user_sums,
)
from recbole_llmtrsr.evaluation.metrics import EXPECTED, mean_values, row_values
from recbole_llmtrsr.evaluation.tie_groups import random_ranking


@dataclass(frozen=True)
class PairTest:
    """A paired randomization test of two rows.

    Attributes:
        first: label of a row.
        second: label of the other.
        metric: name.
        difference: first minus second; its spread is over the seeds of both.
        p: two-sided.
        p_holm: corrected for all pairs of this metric.
    """

    first: str
    second: str
    metric: str
    difference: Estimate
    p: float
    p_holm: float

    def seen_from(self, label: str) -> PairTest:
        """The test with this label first."""
        if label == self.first:
            return self
        d = self.difference
        return replace(self, first=label, second=self.first, difference=Estimate(-d.mean, -d.high, -d.low, d.spread))


def estimates(
    shared: SharedRows, columns: Sequence[Floats], rows: npt.NDArray[np.bool_], n_resamples: int, least_users: int = 2
) -> list[dict[str, Estimate]]:
    """Estimates of each column's metrics on a part of the rows, without metrics that have no value there.

    Args:
        shared: rows, weights and names.
        columns: [n_seeds, n_rows, n_metrics] each.
        rows: mask of the part. [n_rows]
        n_resamples: bootstrap resamples of the users.
        least_users: users with values that an interval needs.
    """
    if not columns:
        return []
    weights = shared.weights[rows]
    sums = user_sums(
        shared.rows["user_id"][rows], np.stack([c[:, rows].mean(axis=0) for c in columns], axis=1), weights
    )
    means, resampled, n_users = sums.means, bootstrap(sums, n_resamples), (sums.weights > 0).sum(axis=0)
    found: list[dict[str, Estimate]] = []
    for i, column in enumerate(columns):
        of_seeds = _seed_means(column[:, rows], weights)
        found.append(
            {
                name: estimate(means[i, j], resampled[:, i, j], int(n_users[j]), spread_of(of_seeds[:, j]), least_users)
                for j, name in enumerate(shared.metrics)
                if np.isfinite(means[i, j])
            }
        )
    return found


def differences(shared: SharedRows, n_resamples: int) -> Iterator[PairTest]:
    """Paired tests of all pairs of rows that measured a metric, metric by metric.

    ``n_resamples`` counts the resamples for every interval, and is the least number of sign flips for every p.
    """
    scores = list(shared.scores.values())
    if len(scores) < 2:
        return
    values = np.stack([s.of_seeds.mean(axis=0) for s in scores], axis=1)
    sums = user_sums(shared.rows["user_id"], values, shared.weights)
    means, resampled = sums.means, bootstrap(sums, n_resamples)
    pairs = list(combinations(range(len(scores)), 2))
    p_of = dict(zip(pairs, p_values(sums, pairs, n_sign_flips(len(sums), len(pairs), n_resamples))))
    of_seeds = [_seed_means(s.of_seeds, shared.weights) for s in scores]
    for j, metric in enumerate(shared.metrics):
        measured = [i for i in range(len(scores)) if np.isfinite(means[i, j])]
        found = []
        for a, b in combinations(measured, 2):
            both = sorted(set(scores[a].seeds) & set(scores[b].seeds))
            by_seed = [
                of_seeds[a][scores[a].seeds.index(s), j] - of_seeds[b][scores[b].seeds.index(s), j] for s in both
            ]
            mean, of_users = means[a, j] - means[b, j], resampled[:, a, j] - resampled[:, b, j]
            found.append((a, b, estimate(mean, of_users, len(sums), spread_of(by_seed)), float(p_of[a, b][j])))
        for (a, b, difference, p), p_holm in zip(found, holm([p for *_, p in found])):
            labels = list(shared.scores)
            yield PairTest(labels[a], labels[b], metric, difference, p, p_holm)


def random_metrics(shared: SharedRows, rows: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Exact metrics of random ranking among the candidates of a part of the rows, a mask [n_rows].

    Metrics that are no means over rows are left out.
    """
    n_candidates, n_positives = (
        shared.rows[name][rows].to_numpy(dtype=np.int64) for name in ("n_candidates", "n_positives")
    )
    named = [(name, *name.partition("@")[::2]) for name in shared.metrics]
    topk = sorted({int(k) for _, _, k in named if k}) or [1]
    known = list(dict.fromkeys(metric for _, metric, _ in named if metric in EXPECTED))
    values = row_values(random_ranking(n_candidates, n_positives), known, topk)
    means = mean_values(values, n_positives)
    return {name: means[name] for name in shared.metrics if np.isfinite(means.get(name, float("nan")))}


def _seed_means(of_seeds: Floats, weights: Floats) -> Floats:
    """[n_seeds, n_rows, n_metrics] -> [n_seeds, n_metrics]."""
    return ratio(np.where(weights > 0, of_seeds * weights, 0.0).sum(axis=1), weights.sum(axis=0))
