"""Prepares batches on another thread while the current one is processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader

_Batch = TypeVar("_Batch")
_Prepared = TypeVar("_Prepared")
_END: Any = object()


def prefetched(
    batches: Iterable[_Batch], prepare: Callable[[_Batch], _Prepared], ahead: int = 2
) -> Iterator[_Prepared]:
    """Yield the prepared batches in order, with up to `ahead` of them made in advance.

    A single thread makes all batches one after another, so that the loader draws the same random numbers as in a plain
    loop, unless the loop ends early.

    Args:
        batches: a loader.
        prepare: converts a batch on that thread.
        ahead: number of batches to hold in advance.
    """
    iterator = iter(batches)

    def make() -> _Prepared:
        batch = next(iterator, _END)
        return batch if batch is _END else prepare(batch)  # type: ignore[no-any-return]

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
    """A loader whose batches are prefetched; all other attributes are the loader's."""

    def __init__(self, loader: AbstractDataLoader, prepare: Callable[[_Batch], _Batch]) -> None:
        self._loader, self._prepare = loader, prepare

    def __iter__(self) -> Iterator[Any]:
        return prefetched(self._loader, self._prepare)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
