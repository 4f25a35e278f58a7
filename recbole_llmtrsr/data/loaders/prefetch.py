"""Batches made on another thread while the one before them is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

_Batch = TypeVar("_Batch")
_END: Any = object()


def prefetched(batches: Iterable[_Batch], prepare: Callable[[_Batch], object], ahead: int = 2) -> Iterator[_Batch]:
    """The batches in their order, some of them made and prepared before they are asked for.

    One thread makes all, one after another, and the first before anything is returned: so a loader draws its random
    numbers as in a plain loop, unless the loop is left early.

    Args:
        batches: a loader.
        prepare: called with every batch, on that thread.
        ahead: batches in stock.
    """
    iterator = iter(batches)

    def make() -> _Batch:
        batch = next(iterator, _END)
        if batch is not _END:
            prepare(batch)
        return batch  # type: ignore[no-any-return]

    thread = ThreadPoolExecutor(max_workers=1)
    try:
        batch = thread.submit(make).result()
        stock = deque(thread.submit(make) for _ in range(ahead))
        while batch is not _END:
            yield batch
            batch = stock.popleft().result()
            stock.append(thread.submit(make))
    finally:
        thread.shutdown(cancel_futures=True)


class Prefetched:
    """A loader whose batches are prefetched; everything else is the loader's own.

    Args:
        loader: RecBole's or ours.
        prepare: called with every batch, on another thread.
    """

    def __init__(self, loader: Any, prepare: Callable[[Any], object]) -> None:
        self._loader, self._prepare = loader, prepare

    def __iter__(self) -> Iterator[Any]:
        return prefetched(self._loader, self._prepare)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def groups(items: Iterable[_Batch], size: int) -> Iterator[list[_Batch]]:
    """Lists of `size` items; the last may be shorter.

    >>> list(groups("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
