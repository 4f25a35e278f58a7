"""Groups of histories by their length, their target and their prompt, to show where a model is strong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

LEAST_USERS = 20  # for an interval: percentiles of fewer users' resamples are far too narrow

HISTORY_LENGTH, TARGET_POPULARITY, TARGET_TEXT, PROMPT = "history length", "target popularity", "target text", "prompt"

# Where groups begin. Fixed, so that data sets and runs can be compared.
_LENGTHS = (0, 1, 6, 11, 21, 51)
_POPULARITIES = (0, 1, 5, 20, 100)
_NAMES = {(TARGET_POPULARITY, "0 events"): "cold"}


@dataclass(frozen=True)
class Group:
    """A part of the rows.

    Attributes:
        kind: the property that is grouped, a constant of this module.
        name: of the group, unique within its kind.
        rows: mask of the rows in it. [n_rows]
    """

    kind: str
    name: str
    rows: npt.NDArray[np.bool_]


def shared_groups(table: pd.DataFrame) -> list[Group]:
    """The groups of a per-history table that all models share; no group is empty, and each kind covers every row."""
    words = table["target_words"]
    known = words[words.notna()].to_numpy(dtype=np.int64)
    # Data sets have titles or abstracts: thirds of the rows fit each of them, and the names state the bounds.
    thirds = sorted(
        {0, *(int(np.quantile(known, share, method="higher")) for share in (1 / 3, 2 / 3))} if len(known) else ()
    )
    return [
        *_binned(HISTORY_LENGTH, table["n_events"], _LENGTHS, "events"),
        *_binned(TARGET_POPULARITY, table["target_popularity"], _POPULARITIES, "events"),
        *(_binned(TARGET_TEXT, words, thirds, "words") if len(known) else ()),
    ]


def prompt_groups(trimmed: pd.Series) -> list[Group]:
    """Groups by the column prompt_trimmed of a model's per-history table; none for models without prompts."""
    if trimmed.isna().all():
        return []
    rows = {"whole": (~trimmed).fillna(False), "trimmed": trimmed.fillna(False), "unknown": trimmed.isna()}
    return _filled([Group(PROMPT, name, mask.to_numpy(dtype=bool)) for name, mask in rows.items()])


def _binned(kind: str, column: pd.Series, begins: Sequence[int], unit: str) -> list[Group]:
    unknown = column.isna().to_numpy(dtype=bool)
    values = column.fillna(-1).to_numpy(dtype=np.int64)
    names = list(_bin_names(begins, unit))
    of_row = np.searchsorted(begins, values, side="right") - 1
    groups = [Group(kind, _NAMES.get((kind, name), name), (of_row == i) & ~unknown) for i, name in enumerate(names)]
    return _filled([*groups, Group(kind, "unknown", unknown)])


def _bin_names(begins: Sequence[int], unit: str) -> Iterator[str]:
    for begin, following in zip(begins, [*begins[1:], None]):
        if following is None:
            yield f"{begin}+ {unit}"
        else:
            yield f"{begin} {unit}" if following == begin + 1 else f"{begin}-{following - 1} {unit}"


def _filled(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if group.rows.any()]
