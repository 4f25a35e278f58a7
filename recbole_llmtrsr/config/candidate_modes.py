"""Where candidates come from: the values of ``eval_args: {mode: ...}``."""

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
        text: its name, the same for all spellings of its number.
        kind: 'uniform', 'popularity', 'matched' (in popularity) or 'category', which are drawn, or 'impressions' or
            'file', which are read.
        n: number of negatives of a history, where they are drawn.
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
    """The mode of that name; None for full and labeled, which have no candidate sets.

    Raises:
        UserError: no such mode, or one that ranks a target against nothing.

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
        raise UserError(f"eval_args mode '{text}' ranks a target against nothing: ask for at least {kind}1")
    return CandidateMode(f"{kind}{n}", _DRAWN[kind], n)


def impression_faults(split: Mapping[str, Any], modes: Iterable[str], is_presplit: bool = False) -> list[str]:
    """Why impressions cannot be ranked or trained on after this split; empty where they can.

    An impression may hold several clicks, each a target of its user. Unless whole users are split off, its candidates
    would therefore label targets of the test in training or validation.

    Args:
        split: ``eval_args: {split: ...}``.
        modes: of validation and test, those of ``also_test``, and the value of ``train_on``.
        is_presplit: ``benchmark_filename`` gives the splits, so that ``split`` has no effect.
    """
    if "impressions" not in modes or (US in split and not is_presplit):
        return []
    found = "the files of benchmark_filename" if is_presplit else f"the split {dict(split)}"
    return [
        "impressions (in eval_args mode, also_test or train_on) need a split by user, since other clicks of an"
        f" impression are other targets of its user, got {found}: set eval_args: {{split: {{US: [0.8, 0.1, 0.1]}}}}"
        f"{' and no benchmark_filename' if is_presplit else ''}"
    ]
