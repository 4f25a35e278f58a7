"""Ranking metrics as exact expectations over all orders of equal scores, row by row.

Consider a group of e candidates with equal scores, p of them positive, behind b better candidates of which q are
positive (see `tie_groups`). A place in the group holds a positive with probability p/e, and two places hold two
positives with probability p(p-1) / (e(e-1)). Let H(n) = 1/1 + ... + 1/n, D(n) = 1/log2(2) + ... + 1/log2(n+1),
l = min(b, k), h = min(b+e, k), c = (p-1)/(e-1), and n the number of positives in the row. Sums run over its groups:

    hits@k      = sum p/e (h-l)          recall@k = hits@k / n,  precision@k = hits@k / k
    ndcg@k      = sum p/e (D(h)-D(l)) / D(min(n, k))
    map@k       = sum p/e ((q+1 - c(b+1)) (H(h)-H(l)) + c(h-l)) / min(n, k)
    auc         = 1 - sum p (b-q + (e-p)/2) / (n (n_candidates - n))
    all 1/rank  = sum p/e (H(b+e)-H(b)) / n
    rank        = sum p (b + (e+1)/2) / n

For map, the hits at or above a hit at place j are the q before the group, the hit itself, and c for each of the j-b-1
places of the group above it. The first hit lies in the best group; no hit lies at or above place j > b with probability

    miss(j) = (1 - p/e) (1 - p/(e-1)) ... (1 - p/(e-(j-b)+1)),   first(j) = miss(j-1) p/(e-(j-b)+1)
    hit@k   = 1 - miss(k),   mrr@k = sum_{j <= k} first(j) / j

Source: the metrics are those of RecBole 1.2.1 and give the same values if no scores are equal; ties follow McSherry and
Najork, "Computing information retrieval performance measures efficiently in the presence of tied scores" (ECIR 2008).
ImpressionAUC and ImpressionMRR are AUC and MRR of the MIND leaderboard, whose nDCG@5 and nDCG@10 are ndcg@k, since
labels are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.evaluation.tie_groups import Ints, TieGroups

Floats = npt.NDArray[np.float64]


def row_values(groups: TieGroups, metrics: Sequence[str], topk: Sequence[int]) -> dict[str, Floats]:
    """Compute each metric of each row.

    Args:
        groups: the tie groups of the rows.
        metrics: lower-case names from `EXPECTED`.
        topk: cut-offs of the rankings.

    Returns:
        Values [n_rows] by name, such as "recall@3" or "gauc", in the order of ``metrics``; gauc is nan for rows without
        negatives.
    """
    values: dict[str, Floats] = {}
    ks = np.asarray(topk, dtype=np.int64)
    for metric in metrics:
        if metric in _AT_K:
            found = _AT_K[metric](groups, ks)  # [n_rows, n_topk]
            values.update({f"{metric}@{k}": found[:, i] for i, k in enumerate(topk)})
        else:
            values[metric] = _WHOLE[metric](groups)
    return values


def mean_values(values: Mapping[str, Floats], n_positives: npt.ArrayLike) -> dict[str, float]:
    """Average `row_values` over rows with a value; nan if there is none. gauc weights rows by their positives."""
    means = {}
    for name, of_rows in values.items():
        known = ~np.isnan(of_rows)
        weights = np.asarray(n_positives)[known] if name == "gauc" else None
        means[name] = float(np.average(of_rows[known], weights=weights)) if known.any() else float("nan")
    return means


def expected_ranks(groups: TieGroups) -> Floats:
    """Compute the expected rank, counted from 1 and averaged over the positives of a row. [n_rows]"""
    return _sum(groups, groups.n_positives * (groups.n_better + (groups.n_equal + 1) / 2)) / groups.row_positives


def _hits(groups: TieGroups, ks: Ints) -> Floats:
    low, high = _places(groups, ks)
    return _sum(groups, _share(groups)[:, None] * (high - low))


def _ndcg(groups: TieGroups, ks: Ints) -> Floats:
    gains = _sums(1 / np.log2(np.arange(2, ks.max() + 2)))
    low, high = _places(groups, ks)
    best = gains[np.minimum(groups.row_positives[:, None], ks)]
    return _sum(groups, _share(groups)[:, None] * (gains[high] - gains[low])) / best


def _map(groups: TieGroups, ks: Ints) -> Floats:
    harmonic = _harmonic(int(ks.max()))
    low, high = _places(groups, ks)
    beside = ((groups.n_positives - 1) / np.maximum(groups.n_equal - 1, 1))[:, None]
    above = _positives_above(groups)[:, None] + 1 - beside * (groups.n_better[:, None] + 1)
    precisions = above * (harmonic[high] - harmonic[low]) + beside * (high - low)
    return _sum(groups, _share(groups)[:, None] * precisions) / np.minimum(groups.row_positives[:, None], ks)


def _hit(groups: TieGroups, ks: Ints) -> Floats:
    return 1 - _first_hits(groups, int(ks.max()))[1][:, ks - 1]


def _mrr(groups: TieGroups, ks: Ints) -> Floats:
    first, _ = _first_hits(groups, int(ks.max()))
    return np.cumsum(first / np.arange(1, first.shape[1] + 1), axis=1)[:, ks - 1]


def _first_hits(groups: TieGroups, n_places: int) -> tuple[Floats, Floats]:
    """Probabilities that a place holds the first hit, and that no place down to it has one. [n_rows, n_places] each"""
    best = np.flatnonzero(np.diff(groups.row, prepend=-1))  # groups are sorted by row, then from the best
    b, e, p = (part[best, None] for part in (groups.n_better, groups.n_equal, groups.n_positives))
    left = e - (np.arange(1, n_places + 1) - b) + 1  # candidates of the group before this place is filled
    # If no more than p candidates are left, all of them are positive.
    chance = np.where(left <= e, np.minimum(p / np.maximum(left, 1), 1), 0.0)
    missed = np.cumprod(1 - chance, axis=1)
    return np.hstack([np.ones((len(best), 1)), missed[:, :-1]]) * chance, missed


def _auc(groups: TieGroups) -> Floats:
    better = groups.n_better - _positives_above(groups)
    wrong = _sum(groups, groups.n_positives * (better + (groups.n_equal - groups.n_positives) / 2))
    pairs = groups.row_positives * (groups.row_candidates - groups.row_positives)
    return np.where(pairs > 0, 1 - wrong / np.maximum(pairs, 1), np.nan)


def _reciprocal_ranks(groups: TieGroups) -> Floats:
    harmonic = _harmonic(int((groups.n_better + groups.n_equal).max(initial=0)))
    low, high = groups.n_better, groups.n_better + groups.n_equal
    return _sum(groups, _share(groups) * (harmonic[high] - harmonic[low])) / groups.row_positives


_AT_K: dict[str, Callable[[TieGroups, Ints], Floats]] = {
    "recall": lambda groups, ks: _hits(groups, ks) / groups.row_positives[:, None],
    "precision": lambda groups, ks: _hits(groups, ks) / ks,
    "hit": _hit,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "map": _map,
}
_WHOLE: dict[str, Callable[[TieGroups], Floats]] = {
    "gauc": _auc,
    "impressionauc": _auc,
    "impressionmrr": _reciprocal_ranks,
}
EXPECTED = (*_AT_K, *_WHOLE)


def _places(groups: TieGroups, ks: Ints) -> tuple[Ints, Ints]:
    """A group's places within the first k are low + 1 ... high: [n_groups, n_topk] each."""
    low, high = groups.n_better, groups.n_better + groups.n_equal
    return np.minimum(low[:, None], ks), np.minimum(high[:, None], ks)


def _share(groups: TieGroups) -> Floats:
    return groups.n_positives / groups.n_equal


def _positives_above(groups: TieGroups) -> Ints:
    """Positives in better groups of the row. [n_groups]"""
    before = np.cumsum(groups.n_positives) - groups.n_positives
    return before - (np.cumsum(groups.row_positives) - groups.row_positives)[groups.row]


def _sum(groups: TieGroups, values: Floats) -> Floats:
    """Sum over the groups of each row: [n_groups, ...] -> [n_rows, ...]."""
    total = np.zeros((len(groups.row_positives), *values.shape[1:]))
    np.add.at(total, groups.row, values)
    return total


def _harmonic(n: int) -> Floats:
    return _sums(1 / np.arange(1, n + 1))


def _sums(terms: Floats) -> Floats:
    """Sums of the first 0, 1, 2, ... terms."""
    return np.concatenate([[0.0], np.cumsum(terms)])
