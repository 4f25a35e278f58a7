"""Negatives drawn for each history: uniformly, by popularity, as popular as the target, or from its category.

A draw depends on nothing but the catalogue, its popularity where that is asked for, the history, the target and the
seed: not on other users, on the order of lines or rows, or on what was drawn before.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.candidates.modes import CandidateMode
from recbole_llmtrsr.data.candidates.split_rows import Ids, SplitRows
from recbole_llmtrsr.errors import UserError

Weights = npt.NDArray[np.float64]


def draw(rows: SplitRows, mode: CandidateMode, seed: str, exclude_history: bool, categories: Ids | None) -> Ids:
    """Draw n different negatives for every row, never the target.

    Args:
        rows: of the split.
        mode: a drawn one.
        seed: any text.
        exclude_history: avoid the items of the history too.
        categories: for kind 'category', the number of each item's category, by item id; -1 where it has none.

    Returns:
        item ids. [n_rows, n]

    Raises:
        UserError: fewer items than asked for.
    """
    n, n_items = mode.n, len(rows.item_tokens)
    weights = np.ones(n_items)
    if mode.kind == "popularity":  # as RecBole: over all events of the data set
        weights = np.bincount(rows.histories.events, minlength=n_items).astype(float)
    weights[0] = 0  # the padding
    # Drawn by rank among the sorted tokens: RecBole's ids follow the order of lines in the .inter file.
    by_rank = np.r_[0, 1 + np.argsort(rows.item_tokens[1:])]
    rank = np.argsort(by_rank)
    weights = weights[by_rank]
    peers = {} if categories is None else _members(categories[by_rank])
    popularity = rows.popularity[by_rank]
    nearest = cache(lambda count: _by_distance(popularity, count))
    drawn = np.empty((len(rows), n), dtype=np.int64)
    left = np.full(len(rows), n)
    for i, (history_id, user, target) in enumerate(zip(rows.history_ids, rows.users, rows.targets, strict=True)):
        history = rows.histories[history_id]
        excluded = np.unique(rank[np.append(history, target) if exclude_history else [target]])
        key = hashlib.blake2b(f"{seed}|{user}|{len(history)}|{rows.item_tokens[target]}".encode(), digest_size=16)
        rng = np.random.default_rng(int.from_bytes(key.digest(), "big"))
        first = np.zeros(0, dtype=np.int64)
        if categories is not None and categories[target] >= 0:
            first = _by_clocks(rng, np.setdiff1d(peers[int(categories[target])], excluded), n)
        if mode.kind == "matched":
            first = _by_clocks(rng, _as_popular(*nearest(int(rows.popularity[target])), excluded, n), n)
        rest = _draw_one(rng, weights, np.union1d(excluded, first), n - len(first)) if len(first) < n else first[:0]
        if rest is None:
            left[i] = (np.delete(weights, excluded) > 0).sum()
        else:
            drawn[i] = by_rank[np.r_[first, rest]]
    if (left < n).any():
        scarcest = int(left.argmin())
        raise UserError(
            f"user '{rows.users[scarcest]}' leaves {left[scarcest]} items to draw from, {n} candidates were asked"
            f" for: ask for fewer (eval_args: {{mode: {mode.text.rstrip('0123456789')}{left[scarcest]}}})"
            + (" or allow items of the history (candidate_exclusion: target)" if exclude_history else "")
        )
    return drawn


def _by_distance(popularity: Ids, count: int) -> tuple[Ids, Weights]:
    """All ranks but the padding's, those of about so many events first, and how far each is: |log (1 + events)|."""
    distance = np.abs(np.log1p(popularity[1:]) - np.log1p(count))
    order = np.argsort(distance, kind="stable")
    return 1 + order, distance[order]


def _as_popular(ranks: Ids, distance: Weights, excluded: Ids, n: int) -> Ids:
    """At least n of the nearest that are allowed, where there are so many, and all that are as near as the n-th."""
    is_allowed = ~np.isin(ranks, excluded)
    ranks, distance = ranks[is_allowed], distance[is_allowed]
    return ranks[distance <= distance[n - 1]] if n < len(ranks) else ranks


def _members(categories: Ids) -> dict[int, Ids]:
    """The ranks of each category's items, ascending."""
    order = np.argsort(categories, kind="stable")
    values, begins = np.unique(categories[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, begins[1:]), strict=True))


def _draw_one(rng: np.random.Generator, weights: Weights, excluded: Ids, n: int) -> Ids | None:
    """n different items by weight, one after the other without replacement; None when there are not enough."""
    if len(weights) > 50 * (n + len(excluded)) and (weights[1:] == 1).all():
        # Few of many equals: rejection is the same distribution, without touching the whole catalogue.
        chosen: dict[int, None] = {}
        banned = set(excluded.tolist())
        while len(chosen) < n:
            chosen.update((i, None) for i in rng.integers(1, len(weights), 2 * n).tolist() if i not in banned)
        return np.fromiter(chosen, dtype=np.int64)[:n]
    allowed = weights.copy()
    allowed[excluded] = 0
    candidates = np.flatnonzero(allowed)
    return None if len(candidates) < n else _by_clocks(rng, candidates, n, allowed[candidates])


def _by_clocks(rng: np.random.Generator, candidates: Ids, n: int, rates: Any = 1.0) -> Ids:
    """n of them, or all where there are fewer.

    The n smallest of exponential clocks with these rates are a draw without replacement.
    """
    clocks = rng.exponential(size=len(candidates)) / rates
    first = np.argpartition(clocks, n - 1)[:n] if n < len(candidates) else np.arange(len(candidates))
    return candidates[first[np.argsort(clocks[first])]]
