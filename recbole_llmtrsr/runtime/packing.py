"""Splits sequences into groups of a fixed number, or of a limited total size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")


def groups(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of `size` items; the last may be shorter.

    >>> list(groups("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def packed(
    order: Iterable[int], sizes: Sequence[int], most: int, *, begun: int = 0, padded: bool = False
) -> Iterator[list[int]]:
    """Yield packs of consecutive indices whose sizes add up to at most `most`; a larger one gets a pack to itself.

    Args:
        order: the indices.
        sizes: size by index.
        most: maximum total size of a pack.
        begun: size that the first pack already has.
        padded: count every index of a pack with the size of its last one, which is the largest if sizes ascend.

    >>> list(packed(range(5), [3, 4, 9, 2, 2], 7))
    [[0, 1], [2], [3, 4]]
    >>> list(packed(range(4), [3, 4, 5, 9], 10, padded=True))
    [[0, 1], [2], [3]]
    """
    pack: list[int] = []
    total = begun
    for i in order:
        total = (len(pack) + 1) * sizes[i] if padded else total + sizes[i]
        if pack and total > most:
            yield pack
            pack, total = [], sizes[i]
        pack.append(i)
    if pack:
        yield pack
