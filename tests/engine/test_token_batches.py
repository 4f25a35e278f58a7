from __future__ import annotations

import pytest

from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.engine.token_batches import candidate_chunks, token_batches


def test_a_history_in_a_shared_row_takes_its_prefix_once_and_its_real_tokens():
    assert GroupedPrompts([[1, 2, 3], [1]], [[[4], [5, 6]], []]).sizes(rows_apart=False) == [6, 0]


def test_a_history_in_rows_apart_takes_its_prefix_and_padding_per_candidate():
    assert GroupedPrompts([[1, 2, 3], [1]], [[[4], [5, 6]], []]).sizes(rows_apart=True) == [10, 0]


@pytest.mark.parametrize(
    ("sizes", "max_tokens", "expected"),
    [
        ([10, 30, 12, 31, 11], 61, [[3, 1], [2, 4, 0]]),  # the longest go first, like lengths go together
        ([4, 4], 8, [[0, 1]]),  # exactly the bound
        ([4, 4], 7, [[0], [1]]),
        ([2, 9, 2], 4, [[1], [0, 2]]),  # one above the bound is a batch of its own
        ([5, 5, 5], 10, [[0, 1], [2]]),  # equal ones keep their order
        ([], 4, []),
    ],
)
def test_histories_share_a_batch_within_the_bound(sizes, max_tokens, expected):
    assert list(token_batches(sizes, max_tokens)) == expected


@pytest.mark.parametrize("max_tokens", [1, 20, 57, 10_000])
def test_every_history_is_in_one_batch_and_no_batch_is_above_the_bound(max_tokens):
    sizes = [1 + i * 11 % 59 for i in range(50)]

    batches = list(token_batches(sizes, max_tokens))

    assert sorted(i for batch in batches for i in batch) == list(range(50))
    assert all(sum(sizes[i] for i in batch) <= max_tokens or len(batch) == 1 for batch in batches)


@pytest.mark.parametrize(
    ("lengths", "prefix_length", "max_tokens", "expected"),
    [
        ([5, 5, 5, 5, 5], 10, 20, [[0, 1], [2, 3, 4]]),  # only the first has the prefix
        ([8, 1, 7, 2], 3, 15, [[1, 3, 2], [0]]),  # like lengths share one
        ([5, 4], 10, 1, [[1], [0]]),  # one candidate always makes one
        ([], 3, 4, []),
    ],
)
def test_candidates_share_a_chunk_within_the_bound(lengths, prefix_length, max_tokens, expected):
    assert list(candidate_chunks(lengths, prefix_length, max_tokens)) == expected


@pytest.mark.parametrize("max_tokens", [1, 70, 110, 10_000])
def test_every_candidate_is_in_one_chunk_and_no_chunk_is_above_the_bound(max_tokens):
    lengths = [1 + i * 7 % 23 for i in range(60)]

    chunks = list(candidate_chunks(lengths, 50, max_tokens))

    assert sorted(i for chunk in chunks for i in chunk) == list(range(60))
    for position, chunk in enumerate(chunks):
        total = sum(lengths[i] for i in chunk) + (50 if position == 0 else 0)
        assert total <= max_tokens or len(chunk) == 1
