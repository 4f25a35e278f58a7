"""A tokenizer with an id per word, so that a test reads what a prompt says."""

from __future__ import annotations

import re


class Words:
    """Lower-case words are what a pattern finds; ``words`` are those met so far, by their ids."""

    bos_token_id = None
    chat_template = None

    def __init__(self, pattern: str = r"\S+") -> None:
        self._pattern, self._ids = re.compile(pattern), {}
        self.words: list[str] = []

    def __call__(self, text, add_special_tokens=True, split_special_tokens=False):
        return {"input_ids": self._encode(text) if isinstance(text, str) else [self._encode(t) for t in text]}

    def _encode(self, text: str) -> list[int]:
        found = self._pattern.findall(text.lower())
        self.words += [word for word in dict.fromkeys(found) if word not in self._ids]
        self._ids.update((word, n) for n, word in enumerate(self.words[len(self._ids) :], start=len(self._ids)))
        return [self._ids[word] for word in found]
