"""Rankings: items in the order of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recbole_llmtrsr.explain.ranking import ExplainedCandidate, ranking


@dataclass(frozen=True)
class RankedItem:
    """An item with its score and rank.

    Attributes:
        item: its id; None where a text was given without one.
        position: its place among the candidates as they were given, from 0; None where the catalogue was searched.
        text: on one line, before a prompt cuts it.
        score: as the test's metrics compare it: log-odds of yes, or where labels are predicted P(yes) or the rating.
        p_yes: probability of yes against no.
        rank: from 1; candidates of equal score share their mean rank.
        tokens_cut: tokens of the text that its prompt has no room for.
    """

    item: str | None
    position: int | None
    text: str
    score: float
    p_yes: float
    rank: float
    tokens_cut: int = 0


@dataclass(frozen=True)
class Ranking:
    """Ranked items, and the history that they were ranked for.

    Attributes:
        items: best first; equal ones in their given order.
        summary: the preference summary of the history; None where summaries are off.
        n_history: items of the history.
        is_trimmed: the prompt has no room for all of the summary, or of the recent items.
        is_replaced: the summarizer gave no answer, so an extract replaces the summary, and scores are not those of the
            run.
        n_unread: items of the history that a retriever, which knows ids alone, could not read.
    """

    items: tuple[RankedItem, ...]
    summary: str | None
    n_history: int
    is_trimmed: bool = False
    is_replaced: bool = False
    n_unread: int = 0

    @property
    def scores(self) -> dict[str, float]:
        """Scores by id, of the items that have one."""
        return {one.item: one.score for one in self.items if one.item is not None}


def ranks(scores: Sequence[float], resolution: float | None) -> list[tuple[int, float]]:
    """Places of scores, best first, each with its rank; scores are compared as multiples of ``resolution``.

    >>> ranks([1.0, 2.0, 1.01], 0.1)
    [(1, 1.0), (0, 2.5), (2, 2.5)]
    >>> ranks([float("nan"), 2.0], 0.1)
    [(1, 1.0), (0, 2.0)]
    """
    compared = [round(score / resolution) if resolution and math.isfinite(score) else score for score in scores]
    made = ranking([ExplainedCandidate(str(place), "", float(score)) for place, score in enumerate(compared)])
    return [(int(ranked.candidate.token), ranked.rank) for ranked in made]
