"""The processes that do a run together: how many they are, which one this is, and what they tell one another.

A launcher (`accelerate launch`, `torchrun`) starts all of them with one command. They take the same steps with the same
random numbers; what can be divided is shared out among them, and the first, the main process, alone writes files and
speaks to the user. Where nothing was launched there is one, and all of this does nothing.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import fsdp

_T = TypeVar("_T")
# Of torch's launcher: what tells libraries that there are others.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_PATIENCE = timedelta(days=365)  # the main process may train other models for days before it has something to tell

_group: Any = None  # of all processes, over gloo: what is told lies in main memory
_divides_weights = False
_alone = False


class MainProcessError(Exception):
    """What the main process ends with, and tells itself."""


def launched() -> int:
    """Processes that the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def local_rank() -> int:
    """Which of this machine's processes this is, and so which of its devices are its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def join() -> None:
    """Meet the other processes, if any were launched; once is enough.

    Raises:
        UserError: the launcher was asked to divide weights in a way that is not ours, or among one process.
    """
    global _group, _divides_weights
    if fsdp.is_asked_for():
        if launched() == 1:
            raise UserError("FSDP divides weights among processes, and there is one: launch more, or launch without it")
        fsdp.hide_from_accelerate()
        _divides_weights = True
    if launched() == 1 or _group is not None:
        return
    dist = _distributed()
    if not dist.is_initialized():
        dist.init_process_group(timeout=_PATIENCE)
    _group = dist.new_group(backend="gloo", timeout=_PATIENCE)


def divides_weights() -> bool:
    """Whether frozen weights are divided among the processes that take the step at hand together."""
    return _divides_weights and count() > 1


def count() -> int:
    """Processes that take the step at hand together."""
    return 1 if _group is None or _alone else int(_distributed().get_world_size())


def rank() -> int:
    """Which of them this is, from 0."""
    return 0 if count() == 1 else int(_distributed().get_rank())


def is_main() -> bool:
    """Whether this process writes files and speaks to the user."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        _distributed().barrier(group=_group)


@contextmanager
def in_turn() -> Iterator[None]:
    """A while that each process has to itself, by rank."""
    for number in range(count()):
        if number == rank():
            yield
        barrier()


def all_gather(value: _T) -> list[_T]:
    """What each process has, by rank."""
    values: list[Any] = [value] * count()
    if count() > 1:
        _distributed().all_gather_object(values, value, group=_group)
    return values


def broadcast(value: _T) -> _T:
    """What the main process has."""
    told = [value]
    if count() > 1:
        _distributed().broadcast_object_list(told, src=0, group=_group)
    return told[0]


def leave() -> None:
    """Part from the other processes when all are done."""
    global _group
    if _group is not None:
        barrier()
        _distributed().destroy_process_group()
        _group = None


def run_on_main(work: Callable[[], _T]) -> _T:
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
            _distributed().broadcast_object_list(told, src=0, group=_group)
    else:
        _distributed().broadcast_object_list(told, src=0, group=_group)
        if not told[1]:
            with suppress(RuntimeError):
                barrier()  # until the main process is gone: a launcher ends all as soon as one is
            raise MainProcessError
    return told[0]  # type: ignore[no-any-return]


def keep_silent() -> None:
    """Let this process say nothing but what it ends with."""
    import transformers.utils.logging as of_transformers

    logging.getLogger().setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()


def check_alike(what: Mapping[str, Any]) -> None:
    """Refuse processes that were not launched for the same.

    Args:
        what: must be equal in all, by its name, as JSON values.

    Raises:
        UserError: in all of them, naming what differs.
    """
    of_all = all_gather({name: json.dumps(value, sort_keys=True, default=str) for name, value in what.items()})
    for number, other in enumerate(of_all):
        differing = [name for name, value in other.items() if value != of_all[0][name]]
        if differing:
            raise UserError(
                f"process {number} has other {' and '.join(differing)} than the main process: give all of them the same"
                " command, and the same files on every machine"
            )


def _distributed() -> Any:
    import torch.distributed as dist  # here, because torch takes a second that small commands should not

    return dist


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
