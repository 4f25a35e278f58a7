"""Rows of a batch, grouped by history once."""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_llmtrsr.model.grouped_rows import GroupedInteraction, GroupedRows

HISTORIES, ITEMS = np.array([7, 3, 7, 5, 3, 7]), np.array([1, 2, 3, 4, 5, 6])


def grouped() -> GroupedRows:
    return GroupedRows.of(HISTORIES, ITEMS, prefix=lambda history: [history], candidate=lambda item: [item, 0])


def test_histories_come_by_their_ids_and_candidates_in_the_order_of_rows():
    prompts = grouped().prompts
    assert prompts.prefixes == [[3], [5], [7]]
    assert prompts.candidates == [[[2, 0], [5, 0]], [[4, 0]], [[1, 0], [3, 0], [6, 0]]]


def test_a_table_has_each_rows_value_at_its_history_and_slot():
    values = torch.from_numpy(ITEMS).float()
    assert grouped().table(values).tolist() == [[2, 5, 0], [4, 0, 0], [1, 3, 6]]


def test_a_part_is_grouped_as_if_its_rows_came_alone():
    rows, part = grouped().part([2, 0])
    alone = GroupedRows.of(HISTORIES[rows], ITEMS[rows], lambda history: [history], lambda item: [item, 0])
    assert rows.tolist() == [True, True, True, False, True, True]
    assert (part.prompts.prefixes, part.prompts.candidates) == (alone.prompts.prefixes, alone.prompts.candidates)
    assert torch.equal(part.history, alone.history)
    assert torch.equal(part.slot, alone.slot)


def test_the_grouping_goes_to_a_device_with_the_rows_and_is_left_where_rows_are_chosen():
    rows = GroupedInteraction(Interaction({"item_id": torch.from_numpy(ITEMS)}), grouped())
    assert rows.to("meta").grouped is rows.grouped
    assert rows.to("meta")["item_id"].device.type == "meta"
    assert type(rows[:2]) is Interaction
