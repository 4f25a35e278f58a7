"""The processes that do a run together: how many they are, which one this is, and what they tell one another.

A launcher (`accelerate launch`, `torchrun`) starts all of them with one command. They take the same steps with the same
random numbers; what can be divided is shared out among them, and the first, the main process, alone writes files and
speaks to the user. Where nothing was launched there is one, and all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

_T = TypeVar("_T")
# Of torch's launcher: what tells libraries that there are others.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_PATIENCE = timedelta(days=365)  # the main process may train other models for days before it has something to tell

_group: Any = None  # of all processes, over gloo: what is told lies in main memory
_alone = False


class MainProcessError(Exception):
    """What the main process tells itself, and ends with."""


def launched() -> int:
    """Processes that the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Which of this machine's processes this is, and so which of its devices are its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def join() -> None:
    """Meet the other processes, if any were launched; once is enough."""
    global _group
    if launched() > 1 and _group is None:
        if not dist.is_initialized():
            dist.init_process_group()
        _group = dist.new_group(backend="gloo", timeout=_PATIENCE)


def count() -> int:
    """Processes that take the step at hand together."""
    return 1 if _group is None or _alone else dist.get_world_size()


def rank() -> int:
    """Which of them this is, from 0."""
    return 0 if count() == 1 else dist.get_rank()


def is_main() -> bool:
    """Whether this process writes files and speaks to the user."""
    return rank() == 0


def meet() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        dist.barrier(group=_group)


def gathered(value: _T) -> list[_T]:
    """What each process has, by rank."""
    values: list[Any] = [value] * count()
    if count() > 1:
        dist.all_gather_object(values, value, group=_group)
    return values


def from_main(value: _T) -> _T:
    """What the main process has."""
    told = [value]
    if count() > 1:
        dist.broadcast_object_list(told, src=0, group=_group)
    return told[0]


def leave() -> None:
    """Part from the other processes when all are done."""
    global _group
    if _group is not None:
        meet()
        dist.destroy_process_group()
        _group = None


def by_main(work: Callable[[], _T]) -> _T:
    """What the main process finds, who works alone meanwhile.

    Args:
        work: what only it does; nothing in it meets the others.

    Raises:
        MainProcessError: in the others, when the work failed.
    """
    if count() == 1:
        return work()
    told: list[Any] = [None, False]
    if is_main():
        try:
            with _by_itself():
                told = [work(), True]
        finally:
            dist.broadcast_object_list(told, src=0, group=_group)
    else:
        dist.broadcast_object_list(told, src=0, group=_group)
        if not told[1]:
            raise MainProcessError
    return told[0]  # type: ignore[no-any-return]


@contextmanager
def _by_itself() -> Iterator[None]:
    """A while in which this process, and the libraries it calls, know of no other."""
    global _alone
    hidden = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    _alone = True
    try:
        yield
    finally:
        _alone = False
        os.environ.update(hidden)
