from __future__ import annotations

import math

import pytest

from recbole_llmtrsr.explain.ranking import ExplainedCandidate, ScoreRange, best, ranking, score_range


def ranks(*scores):
    made = ranking([ExplainedCandidate(f"c{n}", "", score) for n, score in enumerate(scores)])
    return [(ranked.candidate.token, ranked.rank, ranked.n_equal) for ranked in made]


def test_the_highest_score_comes_first():
    assert ranks(-1.0, 3.0, 0.5) == [("c1", 1, 1), ("c2", 2, 1), ("c0", 3, 1)]


def test_equal_scores_share_their_mean_rank():
    assert ranks(1.0, 5.0, 1.0, 1.0, 0.0) == [("c1", 1, 1), ("c0", 3, 3), ("c2", 3, 3), ("c3", 3, 3), ("c4", 5, 1)]
    assert ranks(1.0, 1.0) == [("c0", 1.5, 2), ("c1", 1.5, 2)]


def test_a_score_that_is_not_a_number_comes_last():
    assert ranks(math.nan, -50.0, 2.0, math.nan) == [("c2", 1, 1), ("c1", 2, 1), ("c0", 3.5, 2), ("c3", 3.5, 2)]


def test_nothing_scored_is_nothing_ranked():
    assert ranking([]) == ()


@pytest.mark.parametrize(
    ("log_odds", "p_yes"), [(0.0, 0.5), (math.log(3), 0.75), (-math.log(3), 0.25), (900.0, 1.0), (-900.0, 0.0)]
)
def test_p_yes_is_the_sigmoid_of_the_log_odds(log_odds, p_yes):
    assert ExplainedCandidate("c", "", log_odds).p_yes == pytest.approx(p_yes)


def test_ranks_have_no_needless_digits():
    made = ranking([ExplainedCandidate("c", "", score) for score in (3.0, 2.0, 2.0)])
    assert [ranked.rank_text for ranked in made] == ["1", "2.5", "2.5"]
    assert ranking([ExplainedCandidate("c", "", 0.0)] * 2_000)[0].rank_text == "1000.5"


def test_the_target_is_among_the_best_wherever_it_stands():
    made = ranking([ExplainedCandidate(f"c{n}", "", -n, is_target=n == 3) for n in range(6)])
    assert [ranked.candidate.token for ranked in best(made, 2)] == ["c0", "c1", "c3"]
    assert [ranked.candidate.token for ranked in best(made, 4)] == ["c0", "c1", "c2", "c3"]


def test_the_range_of_scores_is_that_of_all_finite_ones():
    scored = [ExplainedCandidate("c", "", score) for score in (math.nan, -1.0, 3.0, math.inf)]
    assert score_range(scored) == ScoreRange(-1.0, 3.0)
    assert score_range(scored[:1]) is None
    made = ScoreRange(-1.0, 3.0)
    assert [made.share(score) for score in (-1.0, 0.0, 3.0, math.inf, -math.inf, math.nan)] == [0, 0.25, 1, 1, 0, 0]


@pytest.mark.parametrize(("high", "is_narrow"), [(1.0, True), (1.22, True), (1.23, False), (5000.0, False)])
def test_a_range_is_narrow_below_an_odds_ratio_of_a_quarter_more(high, is_narrow):
    assert ScoreRange(1.0, high).is_narrow is is_narrow  # log(1.25) = 0.223
