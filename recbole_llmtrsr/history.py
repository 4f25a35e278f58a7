"""Pure functions on histories: blocks and recent items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def blocks(history: Sequence[T], block_size: int, max_blocks: int | None = None) -> list[tuple[T, ...]]:
    """Cut a history into blocks, aligned to its first event; the last block may be short.

    Alignment makes every prefix of a history share its full blocks, so a summary of a block serves them all.

    Args:
        history: items, oldest first.
        block_size: items per block, at least 1.
        max_blocks: number of most recent blocks kept; None keeps all.

    Returns:
        blocks, oldest first.

    Source:
        the paper's segmentation. Deviation: the authors keep at most 25 items and cut those; here the whole history is
        cut and the most recent blocks are kept.

    >>> blocks("abcdefg", 3)
    [('a', 'b', 'c'), ('d', 'e', 'f'), ('g',)]
    >>> blocks("abcdefg", 3, max_blocks=2)
    [('d', 'e', 'f'), ('g',)]
    """
    if block_size < 1:
        raise ValueError(f"block_size must be >= 1, got {block_size}")
    cut = [tuple(history[start : start + block_size]) for start in range(0, len(history), block_size)]
    return cut if max_blocks is None else cut[max(0, len(cut) - max_blocks) :]


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
