"""Who works on a store right now, seen by locks that the system drops when a process dies, however it dies."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

_OWN_NAME = re.compile(r"[0-9a-f]{32}\.lock")


class Owner:
    """One open store among all that share its file.

    Files come and go inside of the store's write transactions alone, so that nobody judges a lock that is just made.

    Args:
        folder: where the lock files of all owners lie; None where nobody shares.

    Attributes:
        id: differs for every owner, ever.
    """

    def __init__(self, folder: Path | None) -> None:
        self.id = uuid4().bytes
        self._folder = folder
        self._lock: FileLock | None = None

    def appear(self) -> None:
        """Be alive for others from now on, and remove what dead ones left."""
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
        """Whether others see it alive."""
        return self._lock is not None

    def is_alive(self, owner: bytes) -> bool:
        """Whether an owner still runs; the lock file of a dead one is removed."""
        return owner == self.id or (self._folder is not None and _is_held(self._path(owner)))

    def leave(self) -> None:
        """Be dead for others."""
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
