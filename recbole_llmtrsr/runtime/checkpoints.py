"""Saves checkpoints, and loads them without running code from files that are not trusted."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.atomic_write import draft_of
from recbole_llmtrsr.runtime.file_digest import file_digest

_written: set[str] = set()  # digests of the checkpoints that this process wrote
_trusted = False


@contextmanager
def trusting_checkpoints(flag: bool) -> Iterator[None]:
    """`trust_checkpoints` within the block."""
    before = _trusted
    trust_checkpoints(flag)
    try:
        yield
    finally:
        trust_checkpoints(before)


def trust_checkpoints(flag: bool) -> None:
    """Set whether this process unpickles checkpoints written elsewhere, which can run arbitrary code."""
    global _trusted
    _trusted = flag


def save_checkpoint(state: Any, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
    """Save a checkpoint with the options of the run as plain values, so that other processes can load it without trust.

    The digest of the file is remembered, so that this process may unpickle it.
    """
    kwargs.pop("pickle_protocol", None)  # loading plain values takes torch's default
    if hasattr(state.get("config"), "checkpoint_parts"):
        state = {**state, **state["config"].checkpoint_parts()}
        if "best_valid_score" in state:  # not after pretraining
            state["best_valid_score"] = float(state["best_valid_score"])  # RecBole gives a NumPy scalar
    write_checkpoint(state, path, *args, **kwargs)
    with open(path, "rb") as file:
        _written.add(file_digest(file))


def write_checkpoint(state: Any, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
    """`torch.save` to a path atomically; only the main process writes, and an older file remains after a failure.

    Raises:
        UserError: the file cannot be written.
    """
    if not processes.is_main():
        return
    try:
        with draft_of(Path(path)) as draft:
            torch.save(state, draft, *args, **kwargs)
    except (OSError, RuntimeError) as error:  # the errors that torch's archive writer raises
        raise unwritable(path, error) from error


def unwritable(path: str | os.PathLike[str], error: Exception) -> UserError:
    """The error for a checkpoint that cannot be written."""
    reason = (str(error).splitlines() or [""])[0]
    with suppress(OSError):
        reason += f"; {shutil.disk_usage(os.path.dirname(path) or '.').free / 2**20:,.0f} MiB are free there"
    return UserError(
        f"checkpoint {os.fspath(path)!r} cannot be written ({reason}): make room there and resume the run"
        " with --resume=<result folder>, or start a new run with another checkpoint_dir"
    )


def load_checkpoint(path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
    """`torch.load` from a path; files that this process did not write may hold tensors and plain values only.

    Raises:
        UserError: the file is missing or damaged, or holds objects that may not be loaded without trust.
    """
    try:
        # Hashed and loaded through one handle, so that a file that replaces it in between is not loaded.
        with open(path, "rb") as file:
            is_ours = file_digest(file) in _written
            kwargs["weights_only"] = not (is_ours or _trusted)
            try:
                return torch.load(file, *args, **kwargs)
            except Exception as error:
                if is_ours:
                    raise
                raise UserError(_fault(path, error, zipfile.is_zipfile(file))) from error
    except OSError as error:
        raise UserError(
            f"checkpoint {os.fspath(path)!r} cannot be read ({error.strerror}): give the path of a readable file"
        ) from error


def _fault(path: str | os.PathLike[str], error: Exception, is_archive: bool) -> str:
    """The message for a checkpoint from elsewhere that cannot be loaded."""
    name = f"checkpoint {os.fspath(path)!r}"
    if not is_archive:
        return f"{name} is damaged, truncated or not a checkpoint: give a complete file written by torch.save"
    if isinstance(error, pickle.UnpicklingError) and not _trusted:
        return (
            f"{name} was not written by this run and holds more than tensors and plain values, so loading it could run "
            "arbitrary code; accepted are checkpoints written by this run, and those of tensors and plain values. "
            "If you trust its origin, set trust_checkpoint: True"
        )
    reason = (str(error).splitlines() or [""])[0]
    return f"{name} cannot be loaded ({type(error).__name__}: {reason}): give a complete file written by torch.save"
