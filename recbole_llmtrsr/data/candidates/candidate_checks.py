"""What can be wrong with the arrays of a candidate file, all of it at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.tokens import as_tokens, ranked

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

_WORDS = {"UO": "texts", "iu": "whole numbers", "b": "yes and no"}
KINDS = {"users": "UO", "n_events": "iu", "tokens": "UO", "offsets": "iu", "items": "iu", "is_positive": "b"}
TEXTS = ("users", "tokens")
_N_NAMED = 5


def faults(arrays: Mapping[str, Array]) -> list[str]:
    """Faults of form; where there are none, faults of content.

    Args:
        arrays: those of a ``CandidateFile``, by name.
    """
    return _of_kinds(arrays) or _of_lengths(**arrays) or _of_rows(**arrays)


def _of_kinds(arrays: Mapping[str, Array]) -> list[str]:
    return [
        f"{name} must be a list of {_WORDS[kinds]}, got {arrays[name].dtype} of shape {arrays[name].shape}"
        for name, kinds in KINDS.items()
        if arrays[name].ndim != 1 or arrays[name].dtype.kind not in kinds or not _are_texts(arrays[name])
    ]


def _are_texts(array: Array) -> bool:
    """Whether an array of any objects holds nothing else."""
    return array.dtype.kind != "O" or all(isinstance(one, str) for one in array)


def _of_lengths(
    users: Array, n_events: Array, tokens: Array, offsets: Array, items: Array, is_positive: Array
) -> list[str]:
    found = []
    if not len(users) == len(n_events) == len(offsets) - 1:
        found.append(
            f"users, n_events and offsets (one more) must be as many, got {len(users)}, {len(n_events)}, {len(offsets)}"
        )
    elif offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets.astype(np.int64)) < 0).any():
        found.append(f"offsets must rise from 0 to the number of items, {len(items)}")
    if len(is_positive) != len(items):
        found.append(f"is_positive must be as many as items, {len(items)}, got {len(is_positive)}")
    if len(items) and (items.min() < 0 or items.max() >= len(tokens)):
        found.append(f"items must be indices of the {len(tokens)} tokens, got {items.min()} to {items.max()}")
    return found


def _of_rows(
    users: Array, n_events: Array, tokens: Array, offsets: Array, items: Array, is_positive: Array
) -> list[str]:
    rows = np.repeat(np.arange(len(users)), offsets[1:] - offsets[:-1])
    n_positives = np.bincount(rows[is_positive], minlength=len(users))
    by_item = np.lexsort((items, rows))
    again, before = _equal_neighbours(by_item, rows, items)
    is_both = is_positive[again] != is_positive[before]
    by_name = np.lexsort((n_events, ranked(as_tokens(users))[1]))

    def names(where: Indices) -> list[str]:
        return [f"user '{users[i]}' after {n_events[i]} events" for i in where[:_N_NAMED]]

    def items_of(where: Indices) -> list[str]:
        owners = names(rows[where])
        return [f"'{tokens[items[i]]}' of {owner}" for i, owner in zip(where[:_N_NAMED], owners, strict=True)]

    found: list[tuple[str, int, list[str]]] = []
    for what, where, name in (
        ("rows with a negative number of events", np.flatnonzero(n_events < 0), names),
        ("rows named again", _equal_neighbours(by_name, users, n_events)[0], names),
        ("rows without a positive", np.flatnonzero(n_positives == 0), names),
        ("items both positive and negative", again[is_both], items_of),
        ("items twice in a row", again[~is_both], items_of),
    ):
        found.append((what, len(where), name(where)))
    distinct, places = ranked(as_tokens(tokens))
    again_named = distinct[np.bincount(places, minlength=len(distinct)) > 1]
    found.append(("tokens named again", len(again_named), [f"'{token}'" for token in again_named[:_N_NAMED]]))
    return [f"{n:,} {what}: {', '.join(named)}{', ...' * (n > len(named))}" for what, n, named in found if n]


def _equal_neighbours(order: Indices, *keys: Array) -> tuple[Indices, Indices]:
    """Of elements in this order, those that equal the one before by all keys, and the ones before."""
    is_equal = np.ones(max(0, len(order) - 1), dtype=bool)
    for key in keys:
        is_equal &= key[order][1:] == key[order][:-1]
    return order[1:][is_equal], order[:-1][is_equal]
