"""Candidates by their scores.

    P(yes) = 1 / (1 + exp(-log_odds)),   rank = (better candidates) + (equal candidates + 1) / 2

Equal scores share their mean rank over a random order, as in the evaluation. nan comes last.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import rankdata


@dataclass(frozen=True)
class ExplainedCandidate:
    """A scored item: its token, its text, the log-odds of yes, and whether the user chose it next."""

    token: str
    line: str
    log_odds: float
    is_target: bool = False

    @property
    def p_yes(self) -> float:
        """The softmax over yes and no."""
        if self.log_odds >= 0:
            return 1 / (1 + math.exp(-self.log_odds))
        return math.exp(self.log_odds) / (1 + math.exp(self.log_odds))


@dataclass(frozen=True)
class Ranked:
    """A candidate with its expected rank, from 1, and the number of candidates with its score, itself included."""

    candidate: ExplainedCandidate
    rank: float
    n_equal: int

    @property
    def rank_text(self) -> str:
        """The rank without trailing zeros: '3', '2.5'."""
        return f"{self.rank:g}" if self.rank < 1e5 else f"{self.rank:.1f}".removesuffix(".0")


def ranking(candidates: Sequence[ExplainedCandidate]) -> tuple[Ranked, ...]:
    """Rank candidates, best first; equal ones stay in their given order.

    >>> made = ranking([ExplainedCandidate(token, "", score) for token, score in [("a", 1.0), ("b", 2.0), ("c", 1.0)]])
    >>> [(ranked.candidate.token, ranked.rank) for ranked in made]
    [('b', 1.0), ('a', 2.5), ('c', 2.5)]
    """
    order = sorted(candidates, key=_score, reverse=True)
    scores = [_score(candidate) for candidate in order]
    n_equal, ranks = Counter(scores), rankdata([-score for score in scores]).tolist()
    return tuple(Ranked(candidate, rank, n_equal[score]) for candidate, rank, score in zip(order, ranks, scores))


def best(ranked: Sequence[Ranked], n: int) -> tuple[Ranked, ...]:
    """The first n, and the target if it comes later."""
    return (*ranked[:n], *(r for r in ranked[n:] if r.candidate.is_target))


def _score(candidate: ExplainedCandidate) -> float:
    return -math.inf if math.isnan(candidate.log_odds) else candidate.log_odds
