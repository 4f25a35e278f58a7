"""A tokenizer in place of that of a model behind a server, which is unknown: its tokens are pieces of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import BatchEncoding, PreTrainedTokenizerBase

from recbole_llmtrsr.llm.generators.server_client import BYTES_PER_TOKEN


class TextPieces(PreTrainedTokenizerBase):
    """Splits a text into tokens of `BYTES_PER_TOKEN` bytes, so that budgets of tokens are budgets of bytes.

    The id of a piece holds its bytes; joined ids are therefore the joined text. A character that was cut in the middle
    is left out.

    >>> pieces = TextPieces()
    >>> ids = pieces("Café au lait")["input_ids"]
    >>> len(ids), pieces.decode(ids[:2]), pieces.decode([*ids[:1], *ids])
    (5, 'Café ', 'CafCafé au lait')
    """

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, text: str | Sequence[str], **options: object) -> BatchEncoding:  # type: ignore[override]
        """The ids of a text, or of several; options of other tokenizers have no effect."""
        ids = _ids(text) if isinstance(text, str) else [_ids(one) for one in text]
        return BatchEncoding({"input_ids": ids})

    def decode(self, token_ids: Iterable[int], **options: object) -> str:  # type: ignore[override]
        """The text of some ids."""
        pieces = (i.to_bytes(BYTES_PER_TOKEN + 1, "big").lstrip(b"\0")[1:] for i in map(int, token_ids))
        return b"".join(pieces).decode(errors="ignore")

    @property
    def added_tokens_decoder(self) -> dict[int, object]:
        """No token is special."""
        return {}


def _ids(text: str) -> list[int]:
    """The bytes of every piece behind a one, which keeps leading zeros."""
    data = text.encode(errors="replace")  # JSON cannot carry a lone surrogate
    return [
        int.from_bytes(b"\1" + data[begin : begin + BYTES_PER_TOKEN], "big")
        for begin in range(0, len(data), BYTES_PER_TOKEN)
    ]
