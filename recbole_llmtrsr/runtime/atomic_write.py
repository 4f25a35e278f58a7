"""Files, and folders of files, that are written whole or not at all, by the main process alone."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from recbole_llmtrsr.runtime import processes

_DRAFT = ".llmtrsr-draft"  # how the names of unfinished files end, and of no other program's
_LONGEST = 50  # characters of a file's name in that of its draft: systems accept names of 255 bytes


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name, in a folder made if missing, once it is complete; an older one stays until then.

    In processes other than the main one, what is written is discarded.

    Raises:
        OSError: it cannot be written, naming it; nothing is left behind.
    """
    if not processes.is_main():
        with tempfile.TemporaryFile() as nowhere:
            yield nowhere
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(path) as draft, draft.open("wb") as file:
        yield file


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """An empty file beside ``path`` for the block to write, which replaces ``path`` once its content is on disk.

    An older file stays until then, and after a failure. The umask decides who may read the new one, also where a
    library makes its files private.

    Raises:
        OSError: it cannot be written, naming it; nothing is left behind.
    """
    draft = draft_name(path)
    try:
        draft.touch(exist_ok=False)
        mode = draft.stat().st_mode
        yield draft
        os.chmod(draft, mode)
        with draft.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut after the renaming could leave the name on an empty file
        os.replace(draft, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(draft)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # what prevented the writing may prevent this too, and is the fault to be shown
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_write_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write files into, which move to ``folder`` one after the other once all are written.

    Older files of the same names stay until then, and after a failure.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    partial = draft_name(folder)
    partial.mkdir(parents=True)
    mode = partial.stat().st_mode & 0o666
    try:
        yield partial
        for path in sorted(path for path in partial.rglob("*") if path.is_file()):
            target = folder / path.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.chmod(path, mode)
            os.replace(path, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_drafts(folder: Path, name: str | None = None) -> None:
    """Remove unfinished files that a killed process left in a folder, those of one name or of all.

    Files of other programs and of folders below stay. No other process may be writing these files.
    """
    of_file = "*" if name is None else glob.escape(name[-_LONGEST:])
    for draft in folder.glob(f".{of_file}.*{_DRAFT}"):
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def draft_name(path: Path) -> Path:
    """A free name beside a file, by which `remove_drafts` knows what was left unfinished."""
    return path.with_name(f".{path.name[-_LONGEST:]}.{uuid4().hex[:8]}{_DRAFT}")
