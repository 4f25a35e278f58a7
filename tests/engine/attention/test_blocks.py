"""The blocks that FlexAttention visits: none missing, none wrongly taken for complete, few in vain."""

import numpy as np
import pytest
import torch

from recbole_llmtrsr.engine.attention.blocks import Labels, meeting_blocks
from recbole_llmtrsr.engine.attention.flex import block_mask
from recbole_llmtrsr.engine.rows import GroupedPrompts, shared_prefix_rows


def rows_of(prefix_lengths, candidate_lengths, kept=None):
    return shared_prefix_rows(
        GroupedPrompts([[7] * n for n in prefix_lengths], [[[8] * n for n in own] for own in candidate_lengths]), kept
    )


def visible(queries, keys, window):
    """The whole mask, by the rule."""
    same = (queries.history[:, None] == keys.history) & ((keys.slot == -1) | (queries.slot[:, None] == keys.slot))
    distance = queries.position[:, None] - keys.position
    return same & (distance >= 0) & (distance < (window or 10**9))


def expanded(blocks, size, shape):
    return np.kron(blocks, np.ones((size, size), dtype=bool))[: shape[0], : shape[1]]


RAGGED = ([9, 0, 4, 13], [[3, 1], [2, 2], [], [5, 1, 4]])


def test_labels_name_history_slot_and_position_of_every_token():
    queries, keys = Labels.of(rows_of([2, 1], [[1, 2], [1]]))
    assert keys.history.tolist() == [0, 0, 1, 0, 0, 0, 1]
    assert keys.slot.tolist() == [-1, -1, -1, 0, 1, 1, 2]
    assert keys.position.tolist() == [0, 1, 0, 2, 2, 3, 1]
    assert queries.position.tolist() == keys.position.tolist()


def test_where_keys_were_kept_queries_are_the_candidates_alone():
    queries, keys = Labels.of(rows_of([2, 1], [[1, 2], [1]], kept={torch.nn.Module(): ()}))
    assert queries.slot.tolist() == [0, 1, 1, 2]
    assert queries.position.tolist() == [2, 2, 3, 1]
    assert keys.slot.tolist() == [-1, -1, -1, 0, 1, 1, 2]


@pytest.mark.parametrize("kept", [None, {torch.nn.Module(): ()}], ids=["whole", "kept"])
@pytest.mark.parametrize("window", [None, 3, 8])
@pytest.mark.parametrize("size", [1, 2, 4, 64])
def test_every_visible_pair_lies_in_a_listed_block_and_complete_blocks_are_visible_all_over(size, window, kept):
    queries, keys = Labels.of(rows_of(*RAGGED, kept))
    some, every = meeting_blocks(queries, keys, size, window)
    mask = visible(queries, keys, window)
    assert not (mask & ~expanded(some, size, mask.shape)).any()
    assert mask[expanded(every, size, mask.shape)].all()
    assert not (every & ~some).any()


def test_blocks_of_one_token_are_the_mask_itself():
    queries, keys = Labels.of(rows_of(*RAGGED))
    some, _ = meeting_blocks(queries, keys, 1, None)
    assert (some == visible(queries, keys, None)).all()


def test_on_prompts_of_real_size_few_blocks_are_visited_in_vain():
    queries, keys = Labels.of(rows_of([470] * 8, [[53] * 21] * 8))
    some, every = meeting_blocks(queries, keys, 128, None)
    mask = visible(queries, keys, None)
    assert len(mask) == 12664
    assert some.sum() * 128**2 < 2.5 * mask.sum()
    assert every.sum() * 128**2 > 0.5 * mask.sum()
    assert some.mean() < 0.09


@pytest.mark.parametrize("window", [None, 8])
def test_the_mask_handed_to_flexattention_covers_all_that_is_visible(window):
    rows = rows_of([300, 200], [[40, 60, 30], [90]])
    mask = block_mask(rows, window, torch.device("cpu"))
    expected = visible(*Labels.of(rows), window)
    listed = expanded(mask.to_dense()[0, 0].bool().numpy(), 128, expected.shape)
    assert not (expected & ~listed).any()
    n = len(expected)
    q, k = torch.arange(n)[:, None], torch.arange(n)
    assert (mask.mask_mod(torch.tensor(0), torch.tensor(0), q, k).numpy() == expected).all()
