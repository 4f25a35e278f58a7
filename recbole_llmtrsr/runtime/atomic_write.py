"""Atomic writing of files and folders by the main process: other programs see the complete new content or the old."""

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

_DRAFT = ".llmtrsr-draft"  # suffix of unfinished files, which no other program uses
_LONGEST = 50  # characters of a file's name that its draft's name repeats, as systems accept names of 255 bytes


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` once the block has ended; missing folders are created.

    Processes other than the main one write to a temporary file that is discarded.

    Raises:
        OSError: the file cannot be written; the error names it, and no temporary file remains.
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
    """Yield an empty file beside ``path`` for the block to write, and move it to ``path`` once it is on disk.

    An older file remains until then, and after a failure. The umask determines the permissions of the new file, also
    where a library restricts them.

    Raises:
        OSError: the file cannot be written; the error names it, and no temporary file remains.
    """
    draft = draft_name(path)
    try:
        draft.touch(exist_ok=False)
        mode = draft.stat().st_mode
        yield draft
        os.chmod(draft, mode)
        with draft.open("rb") as file:
            os.fsync(file.fileno())  # without it, a power cut after the renaming could leave an empty file
        os.replace(draft, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(draft)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # the cause of a failed write may prevent this, too, and is the error to report
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_write_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move to ``folder`` one by one once the block has ended.

    Older files of the same names remain until then, and after a failure.

    Raises:
        OSError: the folder cannot be written; no temporary folder remains.
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


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``folder`` once the block has ended; what was there is removed.

    Raises:
        OSError: the folder cannot be written; no temporary folder remains.
    """
    partial, former = draft_name(folder), draft_name(folder)
    partial.mkdir(parents=True)
    mode = partial.stat().st_mode & 0o666
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                os.chmod(path, mode)
        if folder.exists():
            os.replace(folder, former)
        os.replace(partial, folder)
    finally:
        if former.exists() and not folder.exists():
            os.replace(former, folder)
        for draft in (former, partial):
            shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path, name: str | None = None) -> None:
    """Remove unfinished files that a killed process left in a folder: all, or those of one file name.

    Files of other programs and in subfolders are not removed. No other process may be writing these files.
    """
    of_file = "*" if name is None else glob.escape(name[-_LONGEST:])
    for draft in folder.glob(f".{of_file}.*{_DRAFT}"):
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def draft_name(path: Path) -> Path:
    """An unused name beside a file, in the form that `remove_drafts` removes."""
    return path.with_name(f".{path.name[-_LONGEST:]}.{uuid4().hex[:8]}{_DRAFT}")
