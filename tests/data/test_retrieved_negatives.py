"""Hard negatives: retrieved for the same history, never its target."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmtrsr.data.retrieved_negatives import RetrievedNegatives

HISTORIES = np.array([8, 3, 5])
TOP = np.array([[81, 82, 83, 84], [31, 32, 33, 34], [51, 52, 53, 54]])
BY_CHANCE = np.arange(101, 107).reshape(2, 3)  # 2 negatives of 3 rows


def test_all_are_retrieved_for_their_history_and_different():
    negatives = RetrievedNegatives(HISTORIES, TOP, share=1.0)
    for _ in range(50):
        first, second = negatives.in_place_of(BY_CHANCE, np.array([3, 8, 3]), np.array([31, 1, 34]))
        assert set(zip(first // 10, second // 10, strict=True)) == {(3, 3), (8, 8)}
        assert (first != second).all()
        assert 31 not in (first[0], second[0])
        assert 34 not in (first[2], second[2])


def test_a_history_with_fewer_retrieved_items_keeps_negatives_by_chance():
    negatives = RetrievedNegatives(HISTORIES, TOP[:, :2], share=1.0)
    drawn = negatives.in_place_of(BY_CHANCE, np.array([5, 5, 5]), np.array([51, 52, 7]))
    assert drawn[:, 0].tolist() == [52, 104]
    assert drawn[:, 1].tolist() == [51, 105]
    assert sorted(drawn[:, 2].tolist()) == [51, 52]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 520, 680), (1.0, 2000, 2000)])
def test_so_many_are_replaced(share, low, high):
    np.random.seed(1)
    ids = np.full(1000, 8)
    drawn = RetrievedNegatives(HISTORIES, TOP, share).in_place_of(np.full((2, 1000), 7), ids, ids)
    assert low <= (drawn != 7).sum() <= high
