from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recbole_llmtrsr.engine.rows import Extent, GroupedPrompts, plain_rows, shared_prefix_rows

PREFIXES = [[11, 12, 13], [21]]
CANDIDATES = [[[31, 32], [33]], [[41]]]


def test_a_shared_row_is_all_prefixes_and_then_all_candidates_without_padding():
    rows = shared_prefix_rows(GroupedPrompts(PREFIXES, CANDIDATES))

    assert rows.input_ids.tolist() == [[11, 12, 13, 21, 31, 32, 33, 41]]
    assert rows.n_prefix_tokens == 4
    assert rows.lengths.tolist() == [2, 1, 1]
    assert rows.valid.tolist() == [[True, True], [True, False]]
    assert rows.answer_tokens.tolist() == [[5, 6], [7, 0]]
    assert rows.input_ids[0, rows.answer_tokens][rows.valid].tolist() == [32, 33, 41]


def test_positions_restart_at_the_prefixs_own_length():
    rows = shared_prefix_rows(GroupedPrompts(PREFIXES, CANDIDATES))

    assert rows.position_ids.tolist() == [[0, 1, 2, 0, 3, 4, 3, 1]]


def test_extents_tell_where_a_history_lies_and_slots_where_its_candidates_do():
    rows = shared_prefix_rows(GroupedPrompts(PREFIXES, CANDIDATES))

    assert rows.extents == (
        Extent(slice(0, 3), slice(0, 3), n_slots=2, slot_width=2, is_even=False),
        Extent(slice(3, 4), slice(3, 4), n_slots=1, slot_width=1, is_even=True),
    )
    assert [extent.prefix_length for extent in rows.extents] == [3, 1]
    assert rows.slots.tolist() == [0, 1, 2, 0]


def test_candidates_of_one_length_are_even():
    rows = shared_prefix_rows(GroupedPrompts([[11], [21]], [[[31, 32], [33, 34]], [[41], [42], [43, 44]]]))

    assert [extent.is_even for extent in rows.extents] == [True, False]
    assert rows.slots.tolist() == [0, 1, 2, 3, 0, 2, 4, 5]


def test_histories_without_candidates_or_without_a_prefix_keep_their_place():
    rows = shared_prefix_rows(GroupedPrompts([[11], [21, 22], []], [[[31]], [], [[51, 52], [53]]]))

    assert rows.input_ids.tolist() == [[11, 21, 22, 31, 51, 52, 53]]
    assert rows.position_ids.tolist() == [[0, 0, 1, 1, 0, 1, 0]]
    assert rows.answer_tokens.tolist() == [[3, 0], [0, 0], [5, 6]]
    assert rows.valid.tolist() == [[True, False], [False, False], [True, True]]
    assert rows.extents == (
        Extent(slice(0, 1), slice(0, 1), n_slots=1, slot_width=1, is_even=True),
        Extent(slice(1, 3), slice(1, 1), n_slots=0, slot_width=0, is_even=True),
        Extent(slice(3, 3), slice(1, 4), n_slots=2, slot_width=2, is_even=False),
    )


def test_arrays_are_laid_out_like_lists():
    rows = shared_prefix_rows(
        GroupedPrompts([np.array(x) for x in PREFIXES], [[np.array(x) for x in own] for own in CANDIDATES])
    )

    assert rows.input_ids.tolist() == shared_prefix_rows(GroupedPrompts(PREFIXES, CANDIDATES)).input_ids.tolist()
    assert rows.input_ids.dtype == torch.int64


def test_keys_still_to_be_kept_need_the_prefixs_tokens():
    kept = {}

    rows = shared_prefix_rows(GroupedPrompts([[11, 12, 13]], [[[31, 32], [33]]]), kept)

    assert rows.input_ids.tolist() == [[11, 12, 13, 31, 32, 33]]
    assert rows.kept is kept


def test_kept_keys_stand_in_for_the_prefixs_tokens_and_move_no_position():
    kept = {nn.Identity(): (torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))}

    rows = shared_prefix_rows(GroupedPrompts([[11, 12, 13]], [[[31, 32], [33]]]), kept)

    assert rows.input_ids.tolist() == [[31, 32, 33]]
    assert rows.position_ids.tolist() == [[3, 4, 3]]
    assert rows.answer_tokens.tolist() == [[1, 2]]
    assert rows.n_prefix_tokens == 0
    assert rows.extents == (Extent(slice(0, 3), slice(0, 3), n_slots=2, slot_width=2, is_even=False),)


def test_a_plain_row_is_one_history_and_one_candidate():
    rows = plain_rows(GroupedPrompts(PREFIXES, CANDIDATES), pad_id=0)

    assert rows.input_ids.tolist() == [[11, 12, 13, 31, 32], [11, 12, 13, 33, 0], [21, 41, 0, 0, 0]]
    assert rows.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
    assert rows.answer_positions.tolist() == [4, 3, 1]
    assert list(zip(rows.history.tolist(), rows.candidate.tolist())) == [(0, 0), (0, 1), (1, 0)]
    assert (rows.n_histories, rows.n_slots) == (2, 2)


def test_a_part_of_plain_rows_is_padded_no_further_than_it_needs():
    part = plain_rows(GroupedPrompts(PREFIXES, CANDIDATES), pad_id=0).part(slice(1, 3))

    assert part.input_ids.tolist() == [[11, 12, 13, 33], [21, 41, 0, 0]]
    assert part.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert part.answer_positions.tolist() == [3, 1]
    assert list(zip(part.history.tolist(), part.candidate.tolist())) == [(0, 1), (1, 0)]
    assert (part.n_histories, part.n_slots) == (2, 2)


@pytest.mark.parametrize(
    "layout", [shared_prefix_rows, lambda prompts: plain_rows(prompts, pad_id=0)], ids=["shared", "plain"]
)
def test_faulty_sections_are_refused(layout):
    with pytest.raises(ValueError, match="2 prefixes but 1 lists of candidates: give each prefix a list"):
        layout(GroupedPrompts([[1], [2]], [[[3]]]))
    with pytest.raises(ValueError, match="no candidate to score: give at least one history"):
        layout(GroupedPrompts([[1]], [[]]))
    with pytest.raises(ValueError, match="no candidate to score"):
        layout(GroupedPrompts([], []))
    with pytest.raises(ValueError, match="a candidate has no tokens: it must contain at least the answer slot"):
        layout(GroupedPrompts([[1]], [[[3], []]]))


def test_moving_rows_moves_every_tensor_and_nothing_else():
    rows = shared_prefix_rows(GroupedPrompts(PREFIXES, CANDIDATES))
    rows.derived["mask"] = torch.zeros(1)  # made for the device it came from

    moved = rows.to("meta")

    tensors = {name for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert len(tensors) == 5
    assert all(getattr(moved, name).device.type == "meta" for name in tensors)
    others = vars(moved).keys() - tensors - {"derived"}
    assert all(getattr(moved, name) is getattr(rows, name) for name in others)
    assert moved.derived == {}
