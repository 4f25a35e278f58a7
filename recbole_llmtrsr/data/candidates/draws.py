"""Samples negatives for each history: uniformly, by popularity, as popular as the target, or from its category.

A draw depends on the catalogue (and its popularity, if the mode uses it), the history, the target and the seed, but not
on other users, the order of lines or rows, or earlier draws.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_llmtrsr.config.candidate_modes import CandidateMode
from recbole_llmtrsr.data.candidates.split_rows import SplitRows
from recbole_llmtrsr.data.tokens import Ids
from recbole_llmtrsr.errors import UserError


def draw(rows: SplitRows, mode: CandidateMode, seed: str, exclude_history: bool, categories: Ids | None) -> Ids:
    """Draw n different negatives for every row, excluding the target.

    Args:
        rows: rows of the split.
        mode: a mode whose candidates are drawn.
        seed: any string.
        exclude_history: exclude the items of the history, too.
        categories: for kind 'category', the number of each item's category, by item id; -1 for items without one.

    Returns:
        item ids. [n_rows, n]

    Raises:
        UserError: fewer than n items remain to draw from for some row.
    """
    n, n_items = mode.n, len(rows.item_tokens)
    # Drawn by rank among the sorted tokens: RecBole's ids follow the order of lines in the .inter file.
    by_rank = np.r_[0, 1 + np.argsort(rows.item_tokens[1:])]
    rank = np.argsort(by_rank)
    everything = np.arange(1, n_items)  # all items except the padding
    weights = np.bincount(rows.histories.events, minlength=n_items)[by_rank]  # counted over all events, as in RecBole
    peers = {} if categories is None else pd.Series(by_rank).groupby(categories[by_rank]).indices
    by_popularity = _ByPopularity(rows.popularity[by_rank])
    drawn = np.empty((len(rows), n), dtype=np.int64)
    left = np.empty(len(rows), dtype=np.int64)
    for i, (history_id, user, target) in enumerate(zip(rows.history_ids, rows.users, rows.targets, strict=True)):
        history = rows.histories[history_id]
        excluded = np.unique(rank[np.append(history, target) if exclude_history else [target]])
        key = hashlib.blake2b(f"{seed}|{user}|{len(history)}|{rows.item_tokens[target]}".encode(), digest_size=16)
        rng = np.random.default_rng(int.from_bytes(key.digest(), "big"))
        if mode.kind == "popularity":
            chosen = _by_weights(rng, weights, excluded, n)
        else:
            chosen = np.zeros(0, dtype=np.int64)
            if mode.kind == "matched":
                chosen = by_popularity.matched(rng, int(rows.popularity[target]), excluded, n)
            elif categories is not None and categories[target] >= 0:
                chosen = _of_equals(rng, peers[int(categories[target])], excluded, n)
            if len(chosen) < n:
                others = np.union1d(excluded, chosen)
                chosen = np.r_[chosen, _of_equals(rng, everything, others, n - len(chosen))]
        left[i] = len(chosen)
        drawn[i, : len(chosen)] = by_rank[chosen]
    if (left < n).any():
        scarcest = int(left.argmin())
        raise UserError(
            f"only {left[scarcest]} items remain to draw negatives from for user '{rows.users[scarcest]}', but {n} are"
            f" needed: draw fewer (eval_args: {{mode: {mode.text.rstrip('0123456789')}{left[scarcest]}}})"
            + (" or allow items of the history (candidate_exclusion: target)" if exclude_history else "")
        )
    return drawn


class _ByPopularity:
    """Ranks sorted by their numbers of training events."""

    def __init__(self, popularity: Ids) -> None:
        self._of_rank = popularity
        self._ranks = 1 + np.argsort(popularity[1:], kind="stable")
        self._counts = popularity[self._ranks]

    def _ends(self, count: int) -> tuple[int, int]:
        begin, end = np.searchsorted(self._counts, (count, count + 1)).tolist()
        return begin, end

    def matched(self, rng: np.random.Generator, count: int, excluded: Ids, n: int) -> Ids:
        """Draw n ranks of exactly `count` events; if there are fewer, take the k next above and the n - k next below.

        k is drawn from 0 to n, so that each position of the target among them by popularity is equally likely; with
        the nearest items it would always be in the middle. If one side has too few, the other fills up.

        Returns:
            ranks; fewer than n if fewer are allowed.
        """
        begin, end = self._ends(count)
        equals = _of_equals(rng, self._ranks[begin:end], excluded, n)
        if len(equals) == n:
            return equals
        n_around = n + len(excluded)  # enough for n allowed ones on either side
        above = self._allowed(slice(end, end + n_around), excluded)
        below = self._allowed(slice(max(0, begin - n_around), begin), excluded)[::-1]
        n_above = int(rng.integers(0, n + 1))
        n_above = min(max(n_above, n - len(below)), len(above))
        n_below = min(n - n_above, len(below))
        sides = [self._next(rng, above, excluded, n_above), self._next(rng, below, excluded, n_below)]
        return np.concatenate([*sides, equals[: n - n_above - n_below]])

    def _allowed(self, places: slice, excluded: Ids) -> Ids:
        ranks = self._ranks[places]
        return ranks[~np.isin(ranks, excluded)]

    def _next(self, rng: np.random.Generator, ranks: Ids, excluded: Ids, n: int) -> Ids:
        """The first n ranks, where those with the count of the last one are drawn from all ranks with that count."""
        if n == 0:
            return ranks[:0]
        last = self._of_rank[ranks[n - 1]]
        nearer = ranks[:n][self._of_rank[ranks[:n]] != last]
        return np.r_[nearer, _of_equals(rng, self._ranks[slice(*self._ends(last))], excluded, n - len(nearer))]


def _of_equals(rng: np.random.Generator, ranks: Ids, excluded: Ids, n: int) -> Ids:
    """Draw n different ranks that are not excluded, uniformly; all if there are fewer."""
    if len(ranks) <= 50 * (n + len(excluded)):
        return _by_clocks(rng, ranks[~np.isin(ranks, excluded)], n)
    # Rejection sampling has the same distribution, without going through all of the many ranks.
    chosen: dict[int, None] = {}
    banned = set(excluded.tolist())
    while len(chosen) < n:
        drawn = ranks[rng.integers(0, len(ranks), 2 * n)].tolist()
        chosen.update((rank, None) for rank in drawn if rank not in banned)
    return np.fromiter(chosen, dtype=np.int64)[:n]


def _by_weights(rng: np.random.Generator, weights: Ids, excluded: Ids, n: int) -> Ids:
    """Draw n different ranks by weight, without replacement; all if there are fewer."""
    allowed = weights.copy()
    allowed[[0, *excluded]] = 0
    ranks = np.flatnonzero(allowed)
    return _by_clocks(rng, ranks, n, allowed[ranks])


def _by_clocks(
    rng: np.random.Generator, candidates: Ids, n: int, rates: float | npt.NDArray[np.number[Any]] = 1.0
) -> Ids:
    """Draw n candidates without replacement: those with the smallest exponential variates with these rates."""
    clocks = rng.exponential(size=len(candidates)) / rates
    first = np.argpartition(clocks, n - 1)[:n] if n < len(candidates) else np.arange(len(candidates))
    return candidates[first[np.argsort(clocks[first])]]
