"""Candidates by their scores.

    P(yes) = 1 / (1 + exp(-log_odds)),   rank = (better candidates) + (equal candidates + 1) / 2

Equal scores share their mean rank over a random order, as in the evaluation. nan comes last.

The model hardly distinguishes candidates if the odds of yes of the best are less than 1.25 times those of the worst.
Then P(yes) differs by less than 0.06 between any two, and a small change of the prompt may reorder them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

_LEAST_ODDS_RATIO = 1.25


@dataclass(frozen=True)
class ExplainedCandidate:
    """A scored item.

    Attributes:
        token: its id.
        line: its text on one line.
        log_odds: of yes.
        is_target: whether the user chose it next.
        tokens_cut: tokens at the end of its text that the model did not read.
        read: the text that the model read, where tokens were cut; else empty, because the model read the whole line.
    """

    token: str
    line: str
    log_odds: float
    is_target: bool = False
    tokens_cut: int = 0
    read: str = ""

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


@dataclass(frozen=True)
class ScoreRange:
    """The lowest and the highest log-odds of a list of candidates."""

    low: float
    high: float

    @property
    def odds_ratio(self) -> float:
        """The odds of yes of the best candidate, divided by those of the worst."""
        return math.exp(min(self.high - self.low, 700.0))  # beyond lies the largest float

    @property
    def is_narrow(self) -> bool:
        """Whether the model hardly distinguishes the candidates."""
        return self.odds_ratio < _LEAST_ODDS_RATIO

    def share(self, log_odds: float) -> float:
        """The place of a score in the range: 0 is the lowest, 1 the highest; 0 for nan, and where all are equal.

        >>> ScoreRange(-1.0, 3.0).share(2.0), ScoreRange(2.0, 2.0).share(2.0)
        (0.75, 0.0)
        """
        if math.isnan(log_odds) or self.high == self.low:
            return 0.0
        return min(1.0, max(0.0, (log_odds - self.low) / (self.high - self.low)))


def score_range(candidates: Sequence[ExplainedCandidate]) -> ScoreRange | None:
    """The range of all finite scores; None where there is none."""
    finite = [candidate.log_odds for candidate in candidates if math.isfinite(candidate.log_odds)]
    return ScoreRange(min(finite), max(finite)) if finite else None


def unread(text: str, read: str) -> str:
    """The end of a text of which a model read the beginning; empty where it read something else.

    >>> unread("Oak chair with arms", "Oak chair")
    ' with arms'
    """
    return text[len(read) :] if text.startswith(read) else ""


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
