"""Loading checkpoints without running what they contain, unless this process wrote them or the user trusts them."""

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

_own: set[str] = set()
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
    """Set whether this process un-pickles checkpoints written elsewhere, which can run any code in them."""
    global _trusted
    _trusted = flag


def save_checkpoint(state: Any, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
    """`torch.save` to a path, with a run's options as plain values, so that it can be loaded without trust elsewhere.

    The digest of what was written is kept: this process may un-pickle the file.
    """
    kwargs.pop("pickle_protocol", None)  # loading plain values takes torch's default
    if hasattr(state.get("config"), "checkpoint_parts"):
        state = {**state, **state["config"].checkpoint_parts()}
        if "best_valid_score" in state:  # not after pretraining
            state["best_valid_score"] = float(state["best_valid_score"])  # NumPy's own type otherwise
    write_checkpoint(state, path, *args, **kwargs)
    with open(path, "rb") as file:
        _own.add(file_digest(file))


def write_checkpoint(state: Any, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
    """`torch.save` to a path as a whole or not at all; what was there before stays until all is written.

    The main process alone writes.

    Raises:
        UserError: it cannot be written.
    """
    if not processes.is_main():
        return
    try:
        with draft_of(Path(path)) as draft:
            torch.save(state, draft, *args, **kwargs)
    except (OSError, RuntimeError) as error:  # torch's own writer of archives knows no other errors
        raise unwritable(path, error) from error


def unwritable(path: str | os.PathLike[str], error: Exception) -> UserError:
    """The error for a checkpoint that cannot be written."""
    reason = (str(error).splitlines() or [""])[0]
    with suppress(OSError):
        reason += f"; {shutil.disk_usage(os.path.dirname(path) or '.').free / 2**20:,.0f} MiB are free there"
    return UserError(
        f"checkpoint {os.fspath(path)!r} cannot be written ({reason}): make room there and go on with"
        " --resume=<the run's result folder>, or begin anew with checkpoint_dir in another place"
    )


def load_checkpoint(path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
    """`torch.load` from a path: whatever it holds if this process wrote it, else tensors and plain values.

    Raises:
        UserError: the file is missing or damaged, or holds more than is accepted from elsewhere.
    """
    try:
        # Hashed and loaded through one handle, so that a file put in its place meanwhile is not the one loaded.
        with open(path, "rb") as file:
            own = file_digest(file) in _own
            kwargs["weights_only"] = not (own or _trusted)
            try:
                return torch.load(file, *args, **kwargs)
            except Exception as error:
                if own:
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
        return f"{name} is damaged, truncated or no checkpoint at all: give a file that torch.save wrote in full"
    if isinstance(error, pickle.UnpicklingError) and not _trusted:
        return (
            f"{name} was not written by this run and holds more than tensors and plain values, so loading it could run "
            "any code in it; accepted are a checkpoint written by this run, or one of tensors and plain values. "
            "If you trust its origin, set trust_checkpoint: True"
        )
    reason = (str(error).splitlines() or [""])[0]
    return f"{name} cannot be loaded ({type(error).__name__}: {reason}): give a file that torch.save wrote in full"
