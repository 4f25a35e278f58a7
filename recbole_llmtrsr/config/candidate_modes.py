"""Sources of candidates: the values of ``eval_args: {mode: ...}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llmtrsr.errors import UserError

US = "US"  # the split by users: eval_args: {split: {US: ...}}
_DRAWN = {"uni": "uniform", "pop": "popularity", "match": "matched", "cat": "category"}


@dataclass(frozen=True)
class CandidateMode:
    """A source of candidates.

    Attributes:
        text: normalized name ('uni20' for 'uni020').
        kind: 'uniform', 'popularity', 'matched' (in popularity) or 'category', which are sampled, or 'impressions' or
            'file', which are read.
        n: number of negatives per history, for sampled modes.
        path: the candidate file of kind 'file'.
    """

    text: str
    kind: str
    n: int = 0
    path: Path | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether a seed, and not a file, determines the candidates."""
        return self.kind in _DRAWN.values()


def candidate_mode(text: str) -> CandidateMode | None:
    """Parse the name of a mode; None for full and labeled, which have no candidate sets.

    Raises:
        UserError: the mode does not exist, or has no negatives.

    >>> candidate_mode("uni020")
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
    kind, n = match[1], int(match[2])
    if n < 1:
        raise UserError(f"eval_args mode '{text}' has no negatives to rank the target against: use at least {kind}1")
    return CandidateMode(f"{kind}{n}", _DRAWN[kind], n)


def impression_faults(split: Mapping[str, Any], modes: Iterable[str], is_presplit: bool = False) -> list[str]:
    """Messages if impressions cannot be used with this split; empty if they can.

    An impression may hold several clicks, each a target of its user. Unless the split is by user, the candidates of
    one impression would reveal test targets in training or validation.

    Args:
        split: ``eval_args: {split: ...}``.
        modes: of validation and test, those of ``also_test``, and the value of ``train_on``.
        is_presplit: ``benchmark_filename`` defines the splits, so that ``split`` has no effect.
    """
    if "impressions" not in modes or (US in split and not is_presplit):
        return []
    found = "the files of benchmark_filename" if is_presplit else f"the split {dict(split)}"
    return [
        "impressions (in eval_args mode, also_test or train_on) need a split by user, because the clicks of one"
        f" impression are several targets of its user, got {found}: set eval_args: {{split: {{US: [0.8, 0.1, 0.1]}}}}"
        f"{' and remove benchmark_filename' if is_presplit else ''}"
    ]
