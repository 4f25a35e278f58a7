"""Rankings: items in the order of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from recbole_llmtrsr.explain.ranking import ExplainedCandidate, ranking

_N_SHOWN, _WIDTH = 20, 70  # items of a repr, characters of their texts


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


@dataclass(frozen=True, repr=False)
class Ranking:
    """Ranked items, and the history that they were ranked for.

    Attributes:
        items: best first; equal ones in their given order.
        summary: the preference summary of the history; None where summaries are off.
        n_history: items of the history.
        is_trimmed: the prompt has no room for all of the summary, or of the recent items.
        is_replaced: the summarizer gave no answer, so an extract replaces the summary, and scores are not those of the
            run.
        n_unread: items of the history that a retriever, which reads ids alone, could not read.

    Examples:
        >>> recommender.rank("196", ["242", "302", "377"]).to_pandas()  # doctest: +SKIP
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

    def to_pandas(self) -> pd.DataFrame:
        """A row for every item, best first: rank, item, text, score, p_yes, position and tokens_cut."""
        columns = ["rank", "item", "text", "score", "p_yes", "position", "tokens_cut"]
        return pd.DataFrame([asdict(one) for one in self.items], columns=columns).astype({"position": "Int64"})

    def __repr__(self) -> str:
        widest = max((len(one.item or "-") for one in self.items), default=0)
        lines = [
            f"{one.rank:>5g}  {one.item or '-':<{widest}}  {one.score:>8.4f}  {shorten(one.text, _WIDTH)}"
            for one in self.items[:_N_SHOWN]
        ]
        n_hidden = len(self.items) - len(lines)
        more = [f"  ... and {n_hidden:,} more: to_pandas() has all"] if n_hidden else []
        return "\n".join([f"{len(self.items):,} items ranked for a history of {self.n_history:,}", *lines, *more])

    def _repr_html_(self) -> str:
        """The items as a table in a notebook."""
        return str(self.to_pandas()[["rank", "item", "text", "score", "p_yes"]].to_html(index=False, max_rows=_N_SHOWN))


def shorten(text: str, n: int) -> str:
    """The first characters of a text, with an ellipsis where some are left out.

    >>> shorten("Red kettle", 6), shorten("Red", 6)
    ('Red k…', 'Red')
    """
    return text if len(text) <= n else f"{text[: n - 1]}…"


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
