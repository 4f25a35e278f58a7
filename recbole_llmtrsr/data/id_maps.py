"""Which users and items the ids of a model stand for: a checkpoint's rows mean nothing under other ones."""

from __future__ import annotations

import hashlib
from typing import Any


def id_maps(dataset: Any) -> dict[str, str]:
    """Digests of a data set's user and item tokens, in the order of their ids."""
    names = {"users": dataset.uid_field, "items": dataset.iid_field}
    return {name: _digest(dataset.field2id_token[field]) for name, field in names.items()}


def _digest(tokens: Any) -> str:
    digest = hashlib.sha256()
    for token in tokens:
        text = str(token).encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()[:16]
