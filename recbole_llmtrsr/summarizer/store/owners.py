"""Owners of claims in a store, identified by file locks, which the system releases when a process dies."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

_OWN_NAME = re.compile(r"[0-9a-f]{32}\.lock")


class Owner:
    """One open store among all those that share a file.

    Lock files are created and removed only inside the store's write transactions, so that no process examines a file
    that is not yet locked.

    Args:
        folder: folder of the lock files of all owners; None for a store in memory.

    Attributes:
        id: unique among all owners.
    """

    def __init__(self, folder: Path | None) -> None:
        self.id = uuid4().bytes
        self._folder = folder
        self._lock: FileLock | None = None

    def appear(self) -> None:
        """Acquire this owner's lock, and remove the lock files of dead owners."""
        if self._folder is None or self._lock is not None:
            return
        self._folder.mkdir(exist_ok=True)
        for path in self._folder.glob("*.lock"):
            if _OWN_NAME.fullmatch(path.name):
                _is_held(path)
        lock = FileLock(self._path(self.id))
        lock.acquire(blocking=False)
        self._lock = lock

    @property
    def has_appeared(self) -> bool:
        """Whether this owner holds its lock."""
        return self._lock is not None

    def is_alive(self, owner: bytes) -> bool:
        """Whether an owner's process still runs; removes the lock file of a dead owner."""
        return owner == self.id or (self._folder is not None and _is_held(self._path(owner)))

    def leave(self) -> None:
        """Release this owner's lock."""
        if self._folder is None or self._lock is None:
            return
        self._lock.release()
        self._path(self.id).unlink(missing_ok=True)
        self._lock = None
        with suppress(OSError):  # others are there
            self._folder.rmdir()

    def _path(self, owner: bytes) -> Path:
        assert self._folder is not None
        return self._folder / f"{owner.hex()}.lock"


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    path.unlink(missing_ok=True)
    return False
