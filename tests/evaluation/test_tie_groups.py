"""Tie groups: what scores say about a ranking, and nothing of where columns stand."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation import tie_groups as module
from recbole_llmtrsr.evaluation.tie_groups import random_ranking, tie_groups

NONE = float("-inf")


def groups(scores, positives):
    rows, items = zip(*positives)
    found = tie_groups(torch.tensor(scores), torch.tensor(rows), torch.tensor(items))
    return tuple(part.tolist() for part in astuple(found))


def test_a_group_knows_who_is_better_who_is_equal_and_how_many_are_positive():
    scores = [
        [NONE, 3.0, 1.0, 1.0, 2.0, 1.0],
        [NONE, 5.0, NONE, 5.0, 7.0, 5.0],
    ]
    row, n_better, n_equal, n_positives, row_candidates, row_positives = groups(scores, [(0, 3), (1, 1)])
    assert (row, n_better, n_equal, n_positives) == ([0, 1], [2, 1], [3, 3], [1, 1])
    assert (row_candidates, row_positives) == ([5, 4], [1, 1])


def test_groups_of_several_positives_stand_from_the_best_to_the_worst_and_rows_in_order():
    scores = [
        [4.0, 9.0, 4.0, 4.0, 1.0, 9.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, NONE],
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    ]
    positives = [(2, 0), (0, 4), (0, 0), (1, 2), (0, 1), (0, 2), (1, 0)]
    row, n_better, n_equal, n_positives, row_candidates, row_positives = groups(scores, positives)
    assert row == [0, 0, 0, 1, 2]
    assert n_better == [0, 2, 5, 0, 5]
    assert n_equal == [2, 3, 1, 5, 1]
    assert n_positives == [1, 2, 1, 2, 1]
    assert row_candidates == [6, 5, 6]
    assert row_positives == [4, 2, 1]


def test_a_positive_that_is_named_twice_counts_once():
    assert groups([[1.0, 2.0]], [(0, 1), (0, 1)]) == ([0], [0], [1], [1], [2], [1])


def test_scores_beyond_all_numbers_are_equal_to_each_other():
    infinite = float("inf")
    row, n_better, n_equal, n_positives, *_ = groups([[infinite, 1.0, infinite, 0.0]], [(0, 0), (0, 1), (0, 3)])
    assert (n_better, n_equal, n_positives) == ([0, 2, 3], [2, 1, 1], [1, 1, 1])


def test_scores_that_differ_in_the_last_bit_are_not_equal():
    one = np.float32(1)
    scores = torch.tensor([[one, np.nextafter(one, np.float32(2))]])
    assert tie_groups(scores, torch.tensor([0]), torch.tensor([0])).n_better.tolist() == [1]


@pytest.mark.parametrize("at_once", [1, 70, 2**22])
def test_many_rows_are_counted_as_one_by_one_would_count(monkeypatch, at_once):
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (60, 30)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = NONE
    positives = [np.flatnonzero(np.isfinite(row))[: rng.integers(1, 6)] for row in scores]
    rows = np.repeat(np.arange(60), [len(items) for items in positives])
    found = tie_groups(torch.from_numpy(scores), torch.from_numpy(rows), torch.from_numpy(np.concatenate(positives)))
    expected = []
    for i, (row, items) in enumerate(zip(scores, positives)):
        for score in sorted(set(row[items]), reverse=True):
            expected.append((i, (row > score).sum(), (row == score).sum(), (row[items] == score).sum()))
    assert list(zip(found.row, found.n_better, found.n_equal, found.n_positives)) == expected
    assert found.row_candidates.tolist() == np.isfinite(scores).sum(axis=1).tolist()
    assert found.row_positives.tolist() == [len(items) for items in positives]


def test_columns_have_no_say():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (50, 40), generator=generator).float()
    positives = torch.rand(50, 40, generator=generator).argsort(dim=1)[:, :3]
    rows = torch.arange(50).repeat_interleave(3)
    before = tie_groups(scores, rows, positives.reshape(-1))
    order = torch.rand(50, 40, generator=generator).argsort(dim=1)
    after = tie_groups(scores.gather(1, order), rows, order.argsort(dim=1).gather(1, positives).reshape(-1))
    for one, other in zip(astuple(before), astuple(after)):
        assert np.array_equal(one, other)


def test_a_target_that_is_scored_as_no_candidate_is_refused_with_a_count():
    scores = torch.tensor([[0.0, NONE], [0.0, 1.0]])
    with pytest.raises(UserError, match="scored 1 of 2 targets -inf, which marks items that are not candidates"):
        tie_groups(scores, torch.tensor([0, 1]), torch.tensor([1, 1]))


def test_a_row_without_a_positive_is_refused():
    with pytest.raises(ValueError, match="1 of 2 rows have no positive"):
        tie_groups(torch.zeros(2, 3), torch.tensor([1]), torch.tensor([1]))


def test_random_ranking_is_that_of_equal_scores():
    scores = torch.zeros(2, 5)
    scores[1, 3:] = NONE
    alike = tie_groups(scores, torch.tensor([0, 0, 1]), torch.tensor([4, 2, 1]))
    for one, other in zip(astuple(random_ranking([5, 3], [2, 1])), astuple(alike)):
        assert np.array_equal(one, other)
