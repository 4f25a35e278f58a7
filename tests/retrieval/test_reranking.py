"""Re-ranking: the top in the new order, the rest as it was, and ties kept throughout."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.retrieval.reranking import Reranking, places, reranked, standardized, top_items

# Item 0 is the padding. Items 3 and 4 are equal, and so are 6 and 7.
SCORES = torch.tensor([[9.0, 0.8, 0.7, 0.5, 0.5, 0.4, 0.1, 0.1]])
ORDER = torch.arange(8)
ROWS = {HISTORY_ID: torch.tensor([1])}


class Constant:
    def __init__(self, scores):
        self._scores = scores

    def scores(self, interaction):
        return self._scores

    def report(self):
        return {}


def order(scores):
    """Items from best to worst, equal ones in braces."""
    values = scores[0, 1:]
    return [set((values == value).nonzero()[:, 0].add(1).tolist()) for value in values.unique().flip(0)]


def test_the_top_holds_the_best_items_and_never_the_padding():
    assert sorted(top_items(SCORES, 2, ORDER)[0].tolist()) == [1, 2]
    assert sorted(top_items(SCORES, 7, ORDER)[0].tolist()) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("favoured", "other"), [(3, 4), (4, 3)])
def test_of_equal_items_at_the_border_the_given_order_decides(favoured, other):
    given = ORDER.clone()
    given[favoured], given[other] = 0, 7
    assert sorted(top_items(SCORES, 3, given)[0].tolist()) == sorted([1, 2, favoured])


def test_where_all_are_equal_every_item_is_taken_about_equally_often():
    taken = Counter()
    for seed in range(400):
        given = torch.randperm(11, generator=torch.Generator().manual_seed(seed))
        taken.update(top_items(torch.zeros(1, 11), 5, given)[0].tolist())
    assert sorted(taken) == list(range(1, 11))
    assert all(150 < n < 250 for n in taken.values())


def test_a_million_items_have_as_many_places_at_the_border():
    n = 1_000_000
    given = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    expected = given.argsort()
    assert sorted(top_items(torch.zeros(1, n), 4, given)[0].tolist()) == sorted(expected[expected > 0][:4].tolist())


@pytest.mark.parametrize(
    ("items", "new", "blend", "expected"),
    [
        ([2, 1, 3], [-1.0, 5.0, 7.0], 1.0, [{3}, {1}, {2}, {4}, {5}, {6, 7}]),
        ([2, 1, 3], [5.0, 5.0, 7.0], 1.0, [{3}, {1, 2}, {4}, {5}, {6, 7}]),  # equal new scores stay equal
        ([2, 1, 4, 3], [5.0, 2.0, 7.0, 1.0], 0.0, [{1}, {2}, {3, 4}, {5}, {6, 7}]),  # none of the new scores
    ],
)
def test_the_given_items_come_first_in_their_new_order_and_the_others_as_they_were(items, new, blend, expected):
    assert order(reranked(SCORES, torch.tensor([items]), torch.tensor([new]), blend)) == expected


def test_a_blend_weighs_standardized_scores():
    # Both have mean 0 and deviation 1 as they are: 0.75 * old + 0.25 * new is -0.5, 0.5 or 0 + 0 ...
    scores = torch.tensor([[0.0, -1.0, 1.0, -5.0]])
    items, new = torch.tensor([[1, 2]]), torch.tensor([[1.0, -1.0]])
    assert order(reranked(scores, items, new, 0.25)) == [{2}, {1}, {3}]
    assert order(reranked(scores, items, new, 0.5)) == [{1, 2}, {3}]
    assert order(reranked(scores, items, new, 0.75)) == [{1}, {2}, {3}]


def test_scales_do_not_matter_to_a_blend():
    generator = torch.Generator().manual_seed(2)
    scores, new = torch.randn(5, 30, generator=generator), torch.randn(5, 10, generator=generator)
    items = top_items(scores, 10, torch.arange(30))
    assert torch.equal(reranked(scores, items, new, 0.3), reranked(scores * 8 + 4, items, new * 2 - 1, 0.3))


def test_standardized_scores_have_mean_0_and_deviation_1_or_are_0():
    rows = standardized(torch.tensor([[1.0, 2.0, 3.0, 6.0], [4.0, 4.0, 4.0, 4.0]]))
    torch.testing.assert_close(rows[0].mean(), torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(rows[0].std(correction=0), torch.tensor(1.0, dtype=torch.float64))
    assert rows[1].tolist() == [0, 0, 0, 0]


def test_places_count_the_worse():
    assert places(torch.tensor([[3.0, 1.0, 3.0, 2.0]])).tolist() == [[2, 0, 2, 1]]


def test_a_share_of_0_is_the_retriever_whose_re_ranker_is_not_asked():
    reranking = Reranking(Constant(SCORES), 3, 8, 0)
    reranking.blend = 0.0

    def never(history_ids, items):
        raise AssertionError

    assert order(reranking.scores(ROWS, never)) == [{1}, {2}, {3, 4}, {5}, {6, 7}]


def test_recall_at_the_top_is_its_ceiling_whatever_the_re_ranker_says():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(50, 40, generator=generator).round(decimals=1)  # with ties
    reranking = Reranking(Constant(scores), 10, 40, 5, 2.0**-16)
    found = reranking.scores(
        {HISTORY_ID: torch.arange(50)}, lambda _, items: torch.randn(items.shape, generator=generator)
    )
    _, top = reranking.top({HISTORY_ID: torch.arange(50)})
    best = found[:, 1:].topk(10).indices + 1
    assert [set(row) for row in best.tolist()] == [set(row) for row in top.tolist()]


def test_differences_below_the_resolution_are_none():
    reranking = Reranking(Constant(SCORES), 2, 8, 0, 2.0**-16)
    found = reranking.scores(ROWS, lambda _, items: torch.where(items == 1, 0.25 + 1e-6, 0.25))
    assert order(found)[0] == {1, 2}


def test_what_is_remembered_is_asked_once():
    reranking, asked = Reranking(Constant(SCORES), 3, 8, 0), []

    def rank(history_ids, items):
        asked.append(items)
        return items.float()

    with reranking.remembering():
        found = [reranking.scores(ROWS, rank) for reranking.blend in (0.5, 1.0, 0.5)]
        reranking.scores({HISTORY_ID: torch.tensor([2])}, rank)
    assert len(asked) == 2
    assert torch.equal(found[0], found[2])
    reranking.scores(ROWS, rank)
    assert len(asked) == 3


def test_more_items_than_there_are_and_nan_are_refused():
    with pytest.raises(UserError, match="rerank_top_k: 8 exceeds the catalogue of 7 items"):
        Reranking(Constant(SCORES), 8, 8, 0)
    with pytest.raises(UserError, match="include nan or infinite values"):
        Reranking(Constant(SCORES * float("nan")), 3, 8, 0).top(ROWS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_left_out_takes_no_place_in_the_top_and_keeps_its_place_behind(dtype):
    left_out = torch.tensor([0]), torch.tensor([1])
    reranking = Reranking(Constant(SCORES.to(dtype)), 2, 8, 0, left_out=lambda ids: left_out)
    scores, top = reranking.top(ROWS)
    assert torch.equal(scores, SCORES.to(dtype))
    top = {*top[0].tolist()}
    assert 2 in top
    assert 1 not in top
    found = order(reranking.scores(ROWS, lambda _, items: items.float()))
    assert found[2:] == [{1}, {3, 4} - top, {5}, {6, 7}]


def test_scores_are_remembered_with_the_items_they_are_of():
    generator = torch.Generator().manual_seed(6)

    class Restless:
        def scores(self, interaction):
            return torch.randn(1, 8, generator=generator)

        def report(self):
            return {}

    reranking = Reranking(Restless(), 3, 8, 0)
    with reranking.remembering():
        tops = []
        for _ in range(5):
            found = reranking.scores(ROWS, lambda _, items: items.float())
            tops.append(found[0, 1:].topk(3).indices.add(1).tolist())
    assert all(top == sorted(tops[0], reverse=True) for top in tops)
