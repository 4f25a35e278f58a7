from __future__ import annotations

import pytest
import torch

from recbole_llmtrsr.model.rows import plain_rows, shared_prefix_rows

PREFIXES = [[11, 12, 13], [21]]
CANDIDATES = [[[31, 32], [33]], [[41]]]


def test_a_shared_row_is_the_prefix_and_then_slots_of_equal_width():
    rows = shared_prefix_rows(PREFIXES, CANDIDATES, pad_id=0)

    assert rows.input_ids.tolist() == [
        [11, 12, 13, 31, 32, 33, 0],
        [21, 0, 0, 41, 0, 0, 0],
    ]
    assert rows.prefix_lengths.tolist() == [3, 1]
    assert (rows.prefix_width, rows.n_slots, rows.slot_width) == (3, 2, 2)
    assert rows.answer_positions.tolist() == [[4, 5], [3, 5]]
    assert rows.valid.tolist() == [[True, True], [True, False]]


def test_positions_restart_at_the_prefixs_own_length_and_padding_adds_none():
    rows = shared_prefix_rows(PREFIXES, CANDIDATES, pad_id=0)

    assert rows.position_ids.tolist() == [
        [0, 1, 2, 3, 4, 3, 3],
        [0, 0, 0, 1, 1, 1, 1],
    ]


def test_a_plain_row_is_one_history_and_one_candidate():
    rows = plain_rows(PREFIXES, CANDIDATES, pad_id=0)

    assert rows.input_ids.tolist() == [[11, 12, 13, 31, 32], [11, 12, 13, 33, 0], [21, 41, 0, 0, 0]]
    assert rows.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
    assert rows.answer_positions.tolist() == [4, 3, 1]
    assert list(zip(rows.history.tolist(), rows.candidate.tolist())) == [(0, 0), (0, 1), (1, 0)]
    assert (rows.n_histories, rows.n_slots) == (2, 2)


def test_a_history_without_candidates_keeps_its_row():
    rows = shared_prefix_rows([[11], [21]], [[], [[41]]], pad_id=0)

    assert rows.input_ids.tolist() == [[11, 0], [21, 41]]
    assert rows.valid.tolist() == [[False], [True]]


@pytest.mark.parametrize("layout", [shared_prefix_rows, plain_rows])
def test_faulty_sections_are_refused(layout):
    with pytest.raises(ValueError, match="2 prefixes but 1 lists of candidates"):
        layout([[1], [2]], [[[3]]], 0)
    with pytest.raises(ValueError, match="no candidate to score"):
        layout([[1]], [[]], 0)
    with pytest.raises(ValueError, match="a candidate has no tokens"):
        layout([[1]], [[[3], []]], 0)
    with pytest.raises(ValueError, match="every prefix is empty"):
        layout([[]], [[[3]]], 0)


def test_packing_keeps_the_real_tokens_in_order_and_padding_undoes_it():
    rows = shared_prefix_rows(PREFIXES, CANDIDATES, pad_id=0)

    packed = rows.packed(rows.input_ids)
    assert packed.tolist() == [[11, 12, 13, 31, 32, 33, 21, 41]]
    assert rows.padded(packed).equal(rows.input_ids)
    assert rows.answer_tokens.tolist() == [[4, 5], [7, 0]]
    assert packed[0, rows.answer_tokens][rows.valid].tolist() == [32, 33, 41]


@pytest.mark.parametrize(("layout", "n_tensors"), [(shared_prefix_rows, 7), (plain_rows, 5)])
def test_moving_rows_moves_every_tensor(layout, n_tensors):
    moved = layout(PREFIXES, CANDIDATES, 0).to("meta")

    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == n_tensors
    assert all(tensor.device.type == "meta" for tensor in tensors)
