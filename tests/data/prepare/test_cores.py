"""The k-core and equal rows."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmtrsr.data.prepare.cores import core_mask, first_of_equals

# User 0 has three events and user 2 one; without user 2, item 2 has one event, and without item 2, user 1 has one.
USERS = np.array([0, 0, 0, 1, 1, 2, 3, 3], dtype=np.int32)
ITEMS = np.array([0, 1, 1, 0, 2, 2, 0, 1], dtype=np.int32)


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, [1, 1, 1, 1, 1, 1, 1, 1]), (2, [1, 1, 1, 0, 0, 0, 1, 1]), (3, [0, 0, 0, 0, 0, 0, 0, 0])],
)
def test_users_and_items_below_k_leave_until_none_is(k: int, expected: list[int]) -> None:
    assert core_mask(USERS, ITEMS, k).tolist() == [bool(stays) for stays in expected]


def test_what_stays_is_the_largest_set_whose_users_and_items_all_have_k() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.geometric(0.08, 240).astype(np.int32), rng.geometric(0.08, 240).astype(np.int32)
    left = list(zip(users.tolist(), items.tolist(), range(240), strict=True))
    weak_at_first: list[tuple[int, int, int]] = []
    while True:  # one event at a time
        weak = [
            event
            for event in left
            if sum(other[0] == event[0] for other in left) < 5 or sum(other[1] == event[1] for other in left) < 5
        ]
        weak_at_first = weak_at_first or weak
        if not weak:
            break
        left.remove(weak[0])
    assert 0 < len(left) < 240 - len(weak_at_first)
    assert np.flatnonzero(core_mask(users, items, 5)).tolist() == [number for *_, number in left]


def test_no_event_has_a_core() -> None:
    nothing = np.array([], dtype=np.int32)
    assert core_mask(nothing, nothing, 5).tolist() == []
    assert first_of_equals(nothing, nothing).tolist() == []


def test_the_first_of_equal_rows_is_the_one_in_file_order() -> None:
    columns = (np.array([1, 0, 1, 1, 0]), np.array([2.5, 0.0, 2.5, 2.5, 1.0]))
    assert first_of_equals(*columns).tolist() == [True, True, False, False, True]
