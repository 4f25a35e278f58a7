"""The content address of a text: a hash of everything that determines it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.summarizer.jobs import KINDS, Kind

KEY_BYTES = 16


def canonical(settings: Mapping[str, object]) -> str:
    """Format settings as canonical JSON, which is equal for equal settings.

    >>> canonical({"b": 1, "a": [True, "é"]})
    '{"a":[true,"é"],"b":1}'
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(text: str) -> bytes:
    """BLAKE2b digest of a text, 16 bytes; it includes lone surrogates, which some files contain."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def item_digest(item: Item) -> bytes:
    """Digest of all that a writer can read of an item, 16 bytes."""
    return digest(json.dumps([item.line, item.fields]))


def call_key(writer: bytes, kind: Kind, items: Sequence[bytes], inputs: Sequence[str]) -> bytes:
    """Compute the key of a call; parts have a fixed length or a count, so that different calls never concatenate alike.

    Args:
        writer: digest of the writer's settings for this kind and attempt.
        kind: kind of the call.
        items: digests of the items, oldest first.
        inputs: earlier texts, oldest first.
    """
    head = bytes([KINDS.index(kind)]) + len(items).to_bytes(4, "little")
    return blake2b(b"".join([writer, head, *items, *map(digest, inputs)]), digest_size=KEY_BYTES).digest()
