"""The k-core of a table of events."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def core_mask(users: npt.NDArray[np.int32], items: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.bool_]:
    """Which events stay when users and items with fewer than k events are taken out until there are none.

    Args:
        users: number of each event's user, from 0. [n_events]
        items: number of each event's item, from 0. [n_events]
        k: least number of events.

    Returns:
        whether each event stays. [n_events]

    >>> core_mask(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2).tolist()
    [True, True, True, True, False]
    """
    stays = np.ones(len(users), dtype=bool)
    while True:
        enough = stays.copy()
        for codes in (users, items):
            enough &= np.bincount(codes[stays], minlength=codes.max(initial=-1) + 1)[codes] >= k
        if (enough == stays).all():
            return stays
        stays = enough


def first_of_equals(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Whether no earlier row has the same values in all columns. [n_rows]

    >>> first_of_equals(np.array([1, 2, 1, 1]), np.array([5, 5, 5, 6])).tolist()
    [True, True, False, True]
    """
    order = np.lexsort(columns)  # stable: of equal rows the first comes first
    is_first = np.ones(len(order), dtype=bool)
    if len(order):
        is_new = np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)
        is_first[order[1:]] = is_new
    return is_first
