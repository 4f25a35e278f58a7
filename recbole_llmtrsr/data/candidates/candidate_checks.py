"""Checks of the arrays of a candidate file, which report all faults at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_llmtrsr.data.tokens import as_tokens

Array = npt.NDArray[Any]

_WORDS = {"UO": "strings", "iu": "whole numbers", "b": "booleans"}
KINDS = {"users": "UO", "n_events": "iu", "tokens": "UO", "offsets": "iu", "items": "iu", "is_positive": "b"}
TEXTS = ("users", "tokens")
_N_NAMED = 5


def faults(arrays: Mapping[str, Array]) -> list[str]:
    """Errors of type and length, or, if there are none, errors of content.

    Args:
        arrays: arrays of a ``CandidateFile``, by name.
    """
    return _of_kinds(arrays) or _of_lengths(**arrays) or _of_rows(**arrays)


def _of_kinds(arrays: Mapping[str, Array]) -> list[str]:
    return [
        f"{name} must be a list of {_WORDS[kinds]}, got {array.dtype} of shape {array.shape}"
        for name, kinds in KINDS.items()
        if (array := arrays[name]).ndim != 1
        or array.dtype.kind not in kinds
        or (array.dtype.kind == "O" and not all(isinstance(one, str) for one in array))
    ]


def _of_lengths(
    users: Array, n_events: Array, tokens: Array, offsets: Array, items: Array, is_positive: Array
) -> list[str]:
    found = []
    if not len(users) == len(n_events) == len(offsets) - 1:
        found.append(
            "users and n_events must have the same length, and offsets one more, got"
            f" {len(users)}, {len(n_events)}, {len(offsets)}"
        )
    elif offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets.astype(np.int64)) < 0).any():
        found.append(f"offsets must rise from 0 to the number of items, {len(items)}")
    if len(is_positive) != len(items):
        found.append(f"is_positive must have the length of items, {len(items)}, got {len(is_positive)}")
    if len(items) and (items.min() < 0 or items.max() >= len(tokens)):
        found.append(f"items must be indices of the {len(tokens)} tokens, got {items.min()} to {items.max()}")
    return found


def _of_rows(
    users: Array, n_events: Array, tokens: Array, offsets: Array, items: Array, is_positive: Array
) -> list[str]:
    rows = np.repeat(np.arange(len(users)), offsets[1:] - offsets[:-1])
    named = pd.DataFrame({"user": pd.Series(as_tokens(users), dtype=object), "n_events": n_events})
    listed = pd.DataFrame({"row": rows, "item": items, "is_positive": is_positive})
    is_again, is_twice = listed.duplicated(["row", "item"]), listed.duplicated()

    def row(i: int) -> str:
        return f"user '{users[i]}' after {n_events[i]} events"

    def item(i: int) -> str:
        return f"'{tokens[items[i]]}' of {row(rows[i])}"

    found = []
    for what, is_faulty, name in (
        ("rows with a negative number of events", n_events < 0, row),
        ("rows named again", named.duplicated(), row),
        ("rows without a positive", np.bincount(rows[is_positive], minlength=len(users)) == 0, row),
        ("items both positive and negative", is_again & ~is_twice, item),
        ("items twice in a row", is_twice, item),
        ("tokens named again", pd.Series(as_tokens(tokens), dtype=object).duplicated(), lambda i: f"'{tokens[i]}'"),
    ):
        where = np.flatnonzero(is_faulty)
        if len(where):
            names = ", ".join([*map(name, where[:_N_NAMED]), *["..."] * (len(where) > _N_NAMED)])
            found.append(f"{len(where):,} {what}: {names}")
    return found
