from __future__ import annotations

import pytest

from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.engine.token_batches import candidate_chunks, token_batches


def test_a_history_in_a_shared_row_takes_its_prefix_once_and_its_real_tokens():
    assert GroupedPrompts([[1, 2, 3], [1]], [[[4], [5, 6]], []]).sizes(rows_apart=False) == [6, 0]


def test_a_history_in_rows_apart_takes_its_prefix_and_padding_per_candidate():
    assert GroupedPrompts([[1, 2, 3], [1]], [[[4], [5, 6]], []]).sizes(rows_apart=True) == [10, 0]


def test_the_longest_histories_go_first_and_like_lengths_go_together():
    assert list(token_batches([10, 30, 12, 31, 11], max_tokens=61)) == [[3, 1], [2, 4, 0]]


def test_a_batch_may_meet_the_bound_exactly():
    assert list(token_batches([4, 4], max_tokens=8)) == [[0, 1]]
    assert list(token_batches([4, 4], max_tokens=7)) == [[0], [1]]


def test_a_history_above_the_bound_is_a_batch_of_its_own():
    assert list(token_batches([2, 9, 2], max_tokens=4)) == [[1], [0, 2]]


def test_equal_histories_keep_their_order():
    assert list(token_batches([5, 5, 5], max_tokens=10)) == [[0, 1], [2]]


def test_no_history_makes_no_batch():
    assert list(token_batches([], max_tokens=4)) == []
    assert list(candidate_chunks([], prefix_length=3, max_tokens=4)) == []


@pytest.mark.parametrize("max_tokens", [1, 20, 57, 10_000])
def test_every_history_is_in_one_batch_and_no_batch_is_above_the_bound(max_tokens):
    sizes = [1 + i * 11 % 59 for i in range(50)]

    batches = list(token_batches(sizes, max_tokens))

    assert sorted(i for batch in batches for i in batch) == list(range(50))
    assert all(sum(sizes[i] for i in batch) <= max_tokens or len(batch) == 1 for batch in batches)


def test_only_the_first_chunk_has_the_prefix():
    assert list(candidate_chunks([5, 5, 5, 5, 5], prefix_length=10, max_tokens=20)) == [[0, 1], [2, 3, 4]]


def test_candidates_of_like_length_share_a_chunk():
    assert list(candidate_chunks([8, 1, 7, 2], prefix_length=3, max_tokens=15)) == [[1, 3, 2], [0]]


def test_one_candidate_always_makes_a_chunk():
    assert list(candidate_chunks([5, 4], prefix_length=10, max_tokens=1)) == [[1], [0]]


@pytest.mark.parametrize("max_tokens", [1, 70, 110, 10_000])
def test_every_candidate_is_in_one_chunk_and_no_chunk_is_above_the_bound(max_tokens):
    lengths = [1 + i * 7 % 23 for i in range(60)]

    chunks = list(candidate_chunks(lengths, 50, max_tokens))

    assert sorted(i for chunk in chunks for i in chunk) == list(range(60))
    for position, chunk in enumerate(chunks):
        total = sum(lengths[i] for i in chunk) + (50 if position == 0 else 0)
        assert total <= max_tokens or len(chunk) == 1
