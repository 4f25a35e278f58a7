"""Hard negatives: retrieved for the same history, never its target."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmtrsr.data.loaders.hard_negatives import RetrievedNegatives, without_later_targets

HISTORIES = np.array([8, 3, 5])
TOP = np.array([[81, 82, 83, 84], [31, 32, 33, 34], [51, 52, 53, 54]])
BY_CHANCE = np.arange(101, 107).reshape(2, 3)  # 2 negatives of 3 rows


def test_all_are_retrieved_for_their_history_and_different():
    top = np.where(np.isin(TOP, (31, 84)), 0, TOP)  # 0 is none
    negatives = RetrievedNegatives(HISTORIES, top, share=1.0)
    found = set()
    for _ in range(50):
        first, second = negatives.in_place_of(BY_CHANCE, np.array([3, 8, 3]))
        assert set(zip(first // 10, second // 10, strict=True)) == {(3, 3), (8, 8)}
        assert (first != second).all()
        found |= {*first, *second}
    assert found == {32, 33, 34, 81, 82, 83}


def test_a_history_with_fewer_retrieved_items_keeps_negatives_by_chance():
    negatives = RetrievedNegatives(HISTORIES, np.array([[81, 82], [0, 0], [51, 0]]), share=1.0)
    drawn = negatives.in_place_of(BY_CHANCE, np.array([5, 3, 8]))
    assert drawn[:, :2].tolist() == [[51, 102], [104, 105]]
    assert sorted(drawn[:, 2].tolist()) == [81, 82]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 520, 680), (1.0, 2000, 2000)])
def test_so_many_are_replaced(share, low, high):
    np.random.seed(1)
    drawn = RetrievedNegatives(HISTORIES, TOP, share).in_place_of(np.full((2, 1000), 7), np.full(1000, 8))
    assert low <= (drawn != 7).sum() <= high


def test_what_the_user_chose_then_or_later_is_no_negative():
    users, history_ids = np.array([1, 2, 1, 1]), np.array([5, 20, 7, 6])
    targets, top = np.array([30, 33, 32, 31]), np.array([[30, 31, 32, 33]] * 3)
    found = without_later_targets(top, np.array([3, 0, 1]), users, history_ids, targets)
    assert found.tolist() == [[30, 0, 0, 33], [0, 0, 0, 33], [30, 31, 32, 0]]
