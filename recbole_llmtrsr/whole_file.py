"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when all is written; until then, and after a failure, an older one stays.

    Args:
        path: of the file; its folder is made if missing.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            yield file  # type: ignore[misc]
            file.close()
            os.chmod(file.name, 0o644)  # temporary files are their owner's alone
            os.replace(file.name, path)
        except BaseException:
            with suppress(OSError):
                file.close()
            os.unlink(file.name)
            raise
