"""Split by user, as in the paper: all rows of a user are in one of training, validation and test.

    eval_args: {split: {US: [10000, 1000, 1000]}}     users of training, validation and test
    eval_args: {split: {US: [0.8, 0.1, 0.1]}}         the same as shares

Source: Zheng et al. (WWW 2024), experiments. Deviation: in the paper each training user has one target; here every
event of a training user except the first is a target (``max_train_targets_per_user: 1`` restores it for LLMTRSR).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from recbole_llmtrsr.data.tokens import Ids, as_tokens
from recbole_llmtrsr.errors import UserError

_EXAMPLE = "set split: {US: [0.8, 0.1, 0.1]} or numbers of users, such as {US: [10000, 1000, 1000]}"


def n_users_of(sizes: Sequence[float], n_users: int) -> list[int]:
    """Number of users in training, validation and test.

    Args:
        sizes: three shares with a sum of at most 1, at least one with a decimal point, or three whole numbers.
        n_users: number of users in the data set.

    Raises:
        UserError: sizes of another form, or more users than the data set has.

    >>> n_users_of([0.8, 0.1, 0.1], 55), n_users_of([10, 2, 2], 55)
    ([44, 6, 5], [10, 2, 2])
    """
    is_numbers = isinstance(sizes, list | tuple) and all(
        isinstance(size, int | float) and not isinstance(size, bool) and size >= 0 for size in sizes
    )
    if not is_numbers or len(sizes) != 3 or not sum(sizes) > 0:
        raise UserError(f"eval_args split US must be three numbers >= 0, got {sizes!r}: {_EXAMPLE}")
    if any(isinstance(size, float) for size in sizes):
        if sum(sizes) > 1 + 1e-9:
            raise UserError(
                f"eval_args split US: {list(sizes)} are read as shares, because one has a decimal point, but their sum"
                f" is more than 1: {_EXAMPLE}"
            )
        ends = [round(n_users * share) for share in np.cumsum(sizes)]
        return [ends[0], ends[1] - ends[0], ends[2] - ends[1]]
    if sum(sizes) > n_users:
        raise UserError(
            f"eval_args split US needs {int(sum(sizes)):,} users ({list(sizes)}), but only {n_users:,} have a target"
            " after filtering: set lower numbers, or shares such as [0.8, 0.1, 0.1]"
        )
    return [int(n) for n in sizes]


def split_by_user(users: Ids, tokens: Sequence[str], sizes: Sequence[float], seed: int) -> tuple[list[Ids], int]:
    """Rows of training, validation and test users.

    Args:
        users: user id of every row. [n_rows]
        tokens: user token by user id.
        sizes: as for ``n_users_of``.
        seed: seed of the draw, which otherwise depends on the tokens only.

    Returns:
        positions of the rows of each split, in the order of the rows, and the number of users in no split.
    """
    present = np.unique(users)
    by_token = present[np.argsort(as_tokens([tokens[user] for user in present]))]
    drawn = np.random.default_rng(seed).permutation(by_token)
    ends = np.cumsum(n_users_of(sizes, len(drawn)))
    parts = [np.flatnonzero(np.isin(users, drawn[begin:end])) for begin, end in pairwise([0, *ends])]
    return parts, len(drawn) - int(ends[-1])
