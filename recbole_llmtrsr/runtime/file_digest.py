"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from typing import BinaryIO


def file_digest(file: BinaryIO) -> str:
    """SHA-256 of an open file's content, in constant memory; afterwards the file is positioned at its start."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()
