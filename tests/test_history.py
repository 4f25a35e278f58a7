from __future__ import annotations

import pytest

from recbole_llmtrsr.history import blocks, recent_items

SIZES = [(n, size) for n in range(0, 13) for size in range(1, 14)]


def test_blocks_are_cut_from_the_first_event():
    assert blocks([1, 2, 3, 4, 5, 6, 7], 3) == [(1, 2, 3), (4, 5, 6), (7,)]


def test_the_most_recent_blocks_are_kept():
    assert blocks([1, 2, 3, 4, 5, 6, 7], 3, max_blocks=2) == [(4, 5, 6), (7,)]
    assert blocks([1, 2, 3], 3, max_blocks=5) == [(1, 2, 3)]


def test_no_history_has_no_block():
    assert blocks([], 5) == []
    assert blocks([], 5, max_blocks=2) == []


@pytest.mark.parametrize(("n", "size"), SIZES)
def test_blocks_joined_are_the_history_and_only_the_last_is_short(n, size):
    cut = blocks(range(n), size)
    assert [item for block in cut for item in block] == list(range(n))
    assert all(len(block) == size for block in cut[:-1])
    assert all(1 <= len(block) <= size for block in cut)


@pytest.mark.parametrize("size", range(1, 8))
def test_a_longer_history_keeps_all_full_blocks(size):
    for n in range(12):
        full = [block for block in blocks(range(n), size) if len(block) == size]
        assert blocks(range(n + 1), size)[: len(full)] == full


@pytest.mark.parametrize(("n", "expected"), [(0, ()), (1, (3,)), (2, (2, 3)), (3, (1, 2, 3)), (9, (1, 2, 3))])
def test_recent_items_are_the_last_oldest_first(n, expected):
    assert recent_items([1, 2, 3], n) == expected
    assert recent_items([], n) == ()


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(ValueError, match=f"block_size must be >= 1, got {size}"):
        blocks([1], size)


def test_a_negative_number_of_recent_items_is_refused():
    with pytest.raises(ValueError, match="n must be >= 0, got -1"):
        recent_items([1], -1)
