"""Files that are written whole or not at all, alone or a folder of them, and by the main process alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from recbole_llmtrsr import processes


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when all is written; until then, and after a failure, an older one stays.

    What a process writes that is not the main one goes nowhere.

    Args:
        path: of the file; its folder is made if missing.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    if not processes.is_main():
        with tempfile.TemporaryFile() as nowhere:
            yield nowhere
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.chmod(file.name, 0o644)  # temporary files are their owner's alone
            os.replace(file.name, path)
        except BaseException:
            with suppress(OSError):
                file.close()
            os.unlink(file.name)
            raise


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A folder to write files into, which go to their own one, one after the other, when all are written.

    Older ones of their names stay until then, and after a failure.

    Args:
        folder: of the files; made if missing. Only one process may write to it at a time.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    partial = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed while it wrote
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in sorted(path for path in partial.rglob("*") if path.is_file()):
            target = folder / path.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
