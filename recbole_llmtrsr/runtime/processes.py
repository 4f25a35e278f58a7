"""The processes of a distributed run: their number and ranks, and the collectives between them.

A launcher (`accelerate launch`, `torchrun`) starts all of them with one command. They take the same steps with the same
random numbers and divide the work; only rank 0, the main process, writes files and prints. Without a launcher there is
one process, and every function here returns immediately.
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
# The launcher's variables, from which libraries learn about the other processes.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_PATIENCE = timedelta(days=365)  # rank 0 may train other models for days before the next collective

_group: Any = None  # of all processes, over gloo: objects are exchanged in main memory
_divides_weights = False
_alone = False


class MainProcessError(Exception):
    """Ends the other processes after the main process has failed, which reports its error."""


def launched() -> int:
    """Number of processes that the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def local_rank() -> int:
    """The rank of this process on its machine, which is also the index of its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def join() -> None:
    """Join the process group of the other processes, if any were launched; further calls change nothing.

    Raises:
        UserError: the launcher is configured for an unsupported way of sharding weights, or for a single process.
    """
    global _group, _divides_weights
    if fsdp.is_requested():
        if launched() == 1:
            raise UserError("FSDP needs several processes, but there is only one: launch more, or launch without FSDP")
        fsdp.hide_from_accelerate()
        _divides_weights = True
    if launched() == 1 or _group is not None:
        return
    dist = _distributed()
    if not dist.is_initialized():
        dist.init_process_group(timeout=_PATIENCE)
    _group = dist.new_group(backend="gloo", timeout=_PATIENCE)


def divides_weights() -> bool:
    """Whether frozen weights are sharded over the processes that take the current step together."""
    return _divides_weights and count() > 1


def count() -> int:
    """The number of processes that take the current step together."""
    return 1 if _group is None or _alone else int(_distributed().get_world_size())


def rank() -> int:
    """The rank of this process among them, from 0."""
    return 0 if count() == 1 else int(_distributed().get_rank())


def is_main() -> bool:
    """Whether this is rank 0, which writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes reach this call."""
    if count() > 1:
        _distributed().barrier(group=_group)


@contextmanager
def in_turn() -> Iterator[None]:
    """Let the processes run the block one after the other, by rank."""
    for number in range(count()):
        if number == rank():
            yield
        barrier()


def all_gather(value: _T) -> list[_T]:
    """The values of all processes, by rank."""
    values: list[Any] = [value] * count()
    if count() > 1:
        _distributed().all_gather_object(values, value, group=_group)
    return values


def broadcast(value: _T) -> _T:
    """The value of rank 0."""
    values = [value]
    if count() > 1:
        _distributed().broadcast_object_list(values, src=0, group=_group)
    return values[0]


def leave() -> None:
    """Wait for the other processes to finish, and leave the process group."""
    global _group
    if _group is not None:
        barrier()
        _distributed().destroy_process_group()
        _group = None


def run_on_main(work: Callable[[], _T]) -> _T:
    """Run ``work`` on rank 0, as if it were the only process, and broadcast its result.

    Raises:
        MainProcessError: on the other ranks, when the work failed.
    """
    if count() == 1:
        return work()
    result, is_done = None, False
    try:
        if is_main():
            with _by_itself():
                result, is_done = work(), True
    finally:
        result, is_done = broadcast((result, is_done))
    if not is_done:
        with suppress(RuntimeError):
            barrier()  # wait until the main process has ended, as a launcher stops all processes as soon as one ends
        raise MainProcessError
    return result  # type: ignore[return-value]


def keep_silent() -> None:
    """Silence logs, warnings and progress bars of this process."""
    import transformers.utils.logging as of_transformers

    logging.getLogger().setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()


def check_alike(what: Mapping[str, Any]) -> None:
    """Check that these JSON values are equal in all processes.

    Raises:
        UserError: in all processes, with the names of the values that differ.
    """
    of_all = all_gather({name: json.dumps(value, sort_keys=True, default=str) for name, value in what.items()})
    for number, other in enumerate(of_all):
        differing = [name for name, value in other.items() if value != of_all[0][name]]
        if differing:
            raise UserError(
                f"process {number} differs from the main process in {' and '.join(differing)}: start all processes with"
                " the same command, and put the same files on every machine"
            )


def _distributed() -> Any:
    import torch.distributed as dist  # imported here, because it takes a second that small commands should not spend

    return dist


@contextmanager
def _by_itself() -> Iterator[None]:
    """Hide the other processes from this one and from the libraries that it calls."""
    global _alone
    hidden = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    _alone = True
    try:
        yield
    finally:
        _alone = False
        os.environ.update(hidden)
