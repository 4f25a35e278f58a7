"""The content address of a text: a hash of everything that determines it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.summarizer.jobs import KINDS, Kind

KEY_BYTES = 16


def canonical(settings: Mapping[str, object]) -> str:
    """Settings as JSON, always the same for equal settings.

    >>> canonical({"b": 1, "a": [True, "é"]})
    '{"a":[true,"é"],"b":1}'
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(text: str) -> bytes:
    """16 bytes that stand for a text; lone surrogates, which some files hold, count too."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def item_digest(item: Item) -> bytes:
    """16 bytes that stand for all that a writer can read of an item."""
    return digest(json.dumps([item.line, item.fields]))


def call_key(writer: bytes, kind: Kind, items: Sequence[bytes], inputs: Sequence[str]) -> bytes:
    """The key of a call; every part has a fixed length or is counted, so that no two calls share one.

    Args:
        writer: digest of the writer's settings for this kind and attempt.
        kind: of the call.
        items: digests of the items, oldest first.
        inputs: earlier texts, oldest first.
    """
    head = bytes([KINDS.index(kind)]) + len(items).to_bytes(4, "little")
    return blake2b(b"".join([writer, head, *items, *map(digest, inputs)]), digest_size=KEY_BYTES).digest()
