"""Texts of other users in place of one's own."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Hashable, Sequence

import numpy as np

from recbole_llmtrsr.errors import UserError


def others_texts(users: Sequence[Hashable], history_ids: Sequence[int], texts: Sequence[str], seed: int) -> list[str]:
    """For each text another one, drawn evenly from the rows of other users, and none that the user has too.

    Args:
        users: by row.
        history_ids: by row; with the seed they decide what is drawn.
        texts: by row; an empty one stays as it is, and is never drawn.
        seed: of the draws.

    Raises:
        UserError: a row has nothing to draw from.

    >>> others_texts(["ann", "ann", "bo", "bo"], [1, 2, 3, 4], ["tea", "tea", "salt", ""], seed=0)
    ['salt', 'salt', 'tea', '']
    """
    pool = sorted(text for text in texts if text)
    if not pool:
        raise UserError("no history has a summary")
    n_with = Counter(pool)
    own: dict[Hashable, set[str]] = {user: set() for user in users}
    for user, text in zip(users, texts):
        own[user].add(text)
    n_others = {user: len(pool) - sum(n_with[text] for text in held) for user, held in own.items()}
    n_without = sum(n_others[user] == 0 for user, text in zip(users, texts) if text)
    if n_without:
        raise UserError(
            f"for {n_without} of {len(pool)} summaries, no other user has one that is not also their user's"
        )
    return [
        _drawn(pool, own[user], int(np.random.default_rng((seed, history_id)).integers(n_others[user]))) if text else ""
        for user, history_id, text in zip(users, history_ids, texts)
    ]


def _drawn(pool: Sequence[str], own: Collection[str], place: int) -> str:
    """The text at a place of the sorted pool, counted without one's own."""
    for text in sorted(own):
        begin, end = bisect_left(pool, text), bisect_right(pool, text)
        if begin <= place:
            place += end - begin
    return pool[place]
