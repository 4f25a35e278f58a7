"""Digests that identify the data of a trained model: its user ids, item ids and held-out events."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from recbole.data.dataset import Dataset

_DIGITS = 16
_WORDS = {"users": "users", "items": "items", "held_out": "events held out for validation and test"}


def identity(dataset: Dataset) -> dict[str, str]:
    """Digests of a built dataset's user and item tokens, in the order of their ids, and of its held-out events."""
    names = {"users": dataset.uid_field, "items": dataset.iid_field}
    tokens = {name: _digest(dataset.field2id_token[field]) for name, field in names.items()}
    return {**tokens, "held_out": dataset.held_out}


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the parts that differ between two identities.

    >>> differences({"users": "a", "items": "b", "held_out": "c"}, {"users": "a", "items": "x", "held_out": "y"})
    ['items', 'events held out for validation and test']
    """
    return [word for name, word in _WORDS.items() if then.get(name) != now.get(name)]


def held_out_digest(parts: Sequence[Any]) -> str:
    """Digest of the validation and test events, independent of their order, and thus equal for all models."""
    digest = hashlib.sha256()
    for part in parts:
        users, items = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
        pairs = np.sort(users.astype(np.int64) * part.item_num + items)
        digest.update(len(pairs).to_bytes(8, "big") + pairs.astype("<i8").tobytes())
    return digest.hexdigest()[:_DIGITS]


def _digest(tokens: Sequence[object]) -> str:
    digest = hashlib.sha256()
    for token in tokens:
        text = str(token).encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()[:_DIGITS]
