"""Pure functions on histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def recent_items(history: Sequence[T], n: int) -> tuple[T, ...]:
    """The last n items of a history, oldest first; fewer when the history is shorter.

    >>> recent_items([1, 2, 3], 2)
    (2, 3)
    >>> recent_items([1, 2, 3], 0)
    ()
    """
    if n < 0:
        raise ValueError(f"n must be >= 0, got {n}")
    return tuple(history[max(0, len(history) - n) :])
