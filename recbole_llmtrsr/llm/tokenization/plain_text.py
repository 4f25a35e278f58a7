"""Tokenizes external texts so that nothing in an item text or a summary becomes a control token of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

# Added tokens that are language, not control: runs of white space, and words added to a vocabulary.
_LANGUAGE = re.compile(r"[\s▁]*([^\W_]+([-'\u2019._ ][^\W_]+)*)?[\s▁]*")


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Added tokens that are not language, by id: special ones, and others such as <think>, </tool_call> and [gMASK]."""
    return {
        i: token.content
        for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()
        if token.special or not _LANGUAGE.fullmatch(token.content)
    }


class PlainText:
    """Tokenizes texts as a tokenizer does, but splits its control tokens.

    transformers' `split_special_tokens` does not split added tokens without the special flag. This class therefore
    works on a copy of the tokenizer in which every control token is special. If the vocabulary itself contains a
    control token (in some SentencePiece and word-level ones), or normalization produces one, as from full-width signs,
    a space is inserted after its first letter. Special tokens that are words are not split, so that "yesterday" remains
    one token in a vocabulary with 'yes'.

    Args:
        max_tokens: maximum length of a text, including the tokens that the tokenizer adds; longer texts are truncated.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._copy = _splitting_copy(tokenizer, max_tokens)
        self._controls = {
            i: content
            for i, content in control_tokens(tokenizer).items()
            if len(content) > 1 and not _LANGUAGE.fullmatch(content) and i != getattr(tokenizer, "unk_token_id", None)
        }
        self._whole = self._still_whole()

    def ids(self, texts: Sequence[str], *, framed: bool = False) -> list[list[int]]:
        """Ids of texts; ``framed``: with the tokens that the tokenizer adds around a text, such as [CLS] and [SEP]."""
        if not texts:
            return []
        texts = [self._broken(text) for text in texts]
        if self._copy is not None:
            read = self._copy.encode_batch_fast(texts, add_special_tokens=framed)
            return [
                self._unwritten(text, framed) if self._positions(encoding) else encoding.ids
                for text, encoding in zip(texts, read, strict=True)
            ]
        cut = {} if self._max_tokens is None else {"truncation": True, "max_length": self._max_tokens}
        return list(self._tokenizer(texts, add_special_tokens=framed, split_special_tokens=True, **cut)["input_ids"])

    def beginning(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long, ending between two characters."""
        text = self._broken(text)
        if self._copy is None:
            return str(self._tokenizer.decode(self.ids([text])[0][:n_tokens]))
        offsets = self._copy.encode(text, add_special_tokens=False).offsets
        return text if n_tokens >= len(offsets) else text[: offsets[n_tokens - 1][1] if n_tokens else 0]

    def _broken(self, text: str) -> str:
        return text if self._whole is None else self._whole.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _positions(self, encoding: Encoding) -> list[int]:
        """Positions of control tokens other than those added around the text."""
        if self._controls.keys().isdisjoint(encoding.ids):
            return []
        around = encoding.special_tokens_mask
        return [at for at, i in enumerate(encoding.ids) if i in self._controls and not around[at]]

    def _unwritten(self, text: str, framed: bool) -> list[int]:
        """Ids of a text, with a space inside each control token that normalization produces."""
        assert self._copy is not None
        encoding = self._copy.encode(text, add_special_tokens=framed)
        for at in reversed(self._positions(encoding)):
            begin = encoding.offsets[at][0] + 1
            text = f"{text[:begin]} {text[begin:]}"
        return list(self._copy.encode(text, add_special_tokens=framed).ids)

    def _still_whole(self) -> re.Pattern[str] | None:
        """A pattern of the control tokens that the vocabulary itself contains."""
        self._whole = None
        controls, self._controls = self._controls, {}
        read = self.ids([*controls.values()])
        self._controls = controls
        whole = [content for (i, content), ids in zip(controls.items(), read, strict=True) if i in ids]
        return re.compile("|".join(map(re.escape, sorted(whole, key=len, reverse=True)))) if whole else None


def _splitting_copy(tokenizer: PreTrainedTokenizerBase, max_tokens: int | None) -> Tokenizer | None:
    """A copy of a fast tokenizer that splits control tokens; None for a slow tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    state, controls = json.loads(backend.to_str()), control_tokens(tokenizer)
    for token in state["added_tokens"]:
        token["special"] = token["id"] in controls
    copy = Tokenizer.from_str(json.dumps(state))
    copy.encode_special_tokens = True
    copy.no_padding()
    copy.no_truncation()
    if max_tokens is not None:
        copy.enable_truncation(max_tokens)
    return copy
