"""Where candidates come from: the values of ``eval_args: {mode: ...}``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from recbole_llmtrsr.errors import UserError

_DRAWN = {"uni": "uniform", "pop": "popularity", "match": "matched", "cat": "category"}


@dataclass(frozen=True)
class CandidateMode:
    """One way to candidates.

    Attributes:
        text: as the user wrote it.
        kind: 'uniform', 'popularity', 'matched' (in popularity) or 'category', which are drawn, or 'impressions' or
            'file', which are read.
        n: negatives of a history, where they are drawn.
        path: the candidate file of kind 'file'.
    """

    text: str
    kind: str
    n: int = 0
    path: Path | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether a seed decides, not a file."""
        return self.kind in _DRAWN.values()


def candidate_mode(text: str) -> CandidateMode | None:
    """The mode of that name; None for full and labeled, which have no candidate sets.

    Raises:
        UserError: no such mode, or one that ranks a target against nothing.

    >>> candidate_mode("uni20")
    CandidateMode(text='uni20', kind='uniform', n=20, path=None)
    >>> candidate_mode("file:ours.npz").path.name, candidate_mode("full")
    ('ours.npz', None)
    """
    if text in ("full", "labeled"):
        return None
    if text == "impressions":
        return CandidateMode(text, text)
    if text.startswith("file:") and text != "file:":
        return CandidateMode(text, "file", path=Path(text.removeprefix("file:")))
    match = re.fullmatch(r"(uni|pop|match|cat)([0-9]+)", text)
    if match is None:
        raise UserError(
            "eval_args mode must be uni<n>, pop<n>, match<n> or cat<n> (n negatives drawn uniformly, by popularity,"
            " among items as popular as the target, or from its category), impressions, file:<path>, full or labeled,"
            f" got '{text}'"
        )
    if int(match[2]) < 1:
        raise UserError(f"eval_args mode '{text}' ranks a target against nothing: ask for at least {match[1]}1")
    return CandidateMode(text, _DRAWN[match[1]], int(match[2]))
