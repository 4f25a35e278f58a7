"""A cache of embeddings on disk, written in parts, so that an interrupted run continues."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import atomic_write, draft_name

Vectors = npt.NDArray[np.float32]


class VectorFile:
    """A memory-mapped .npy file of fp32 rows, and a .json file beside it with the number of rows written.

    A row is counted only once it is on disk. Processes that write one file at the same time write the same rows, so
    every row that any of them has counted exists.

    Args:
        path: path that ends in .npy; an existing file is continued.
        n_rows: number of rows of the finished file.
        width: length of a row.

    Raises:
        UserError: the existing file has another shape, or the file cannot be read or created.
    """

    def __init__(self, path: Path, n_rows: int, width: int) -> None:
        self._progress = path.with_suffix(".json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _make(path, n_rows, width)
            self.n_done: int = 0
            if self._progress.exists():
                self.n_done = json.loads(self._progress.read_text(encoding="utf-8"))["n_done"]
            # A finished file may be read-only, which torch does not accept as memory: map it copy-on-write.
            mode: Literal["c", "r+"] = "c" if self.n_done == n_rows else "r+"
            self.rows: Vectors = np.lib.format.open_memmap(path, mode=mode)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"vectors {path} can be neither read nor created ({error}): remove the file") from error
        if self.rows.shape != (n_rows, width) or self.rows.dtype != np.float32:
            raise UserError(
                f"vectors {path} hold {self.rows.shape} of {self.rows.dtype}, not {(n_rows, width)} of float32: remove"
                " the file"
            )

    def missing(self, n: int) -> Iterator[range]:
        """Yield the rows still to be written, at most n at a time."""
        for begin in range(self.n_done, len(self.rows), n):
            yield range(begin, min(begin + n, len(self.rows)))

    def write(self, vectors: npt.NDArray[np.floating]) -> None:
        """Write the next rows. [n, width]"""
        self.rows[self.n_done : self.n_done + len(vectors)] = vectors
        self.rows.flush()  # type: ignore[attr-defined]
        self.n_done += len(vectors)
        with atomic_write(self._progress) as file:
            file.write(json.dumps({"n_done": self.n_done}).encode())


def _make(path: Path, n_rows: int, width: int) -> None:
    """Create a file of zeros, renamed once it is complete, unless another process creates it first."""
    draft = draft_name(path)
    try:
        np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=(n_rows, width))
        if hasattr(os, "posix_fallocate"):  # otherwise a full disk would kill the process with SIGBUS on a write
            with draft.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, draft.stat().st_size)
        if not path.is_file():
            path.with_suffix(".json").unlink(missing_ok=True)  # left over from a .npy file that was removed
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
