"""Encoding of prompts and decoding of answers, for generators that run the model in this process."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from recbole_llmtrsr.llm.tokenization.chat import chat_frame
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText
from recbole_llmtrsr.llm.tokenization.thoughts import is_part_of_mark, opened_thoughts

DEFAULT_CONTEXT = 2048  # tokens, for models without a stated limit


class PromptTokens:
    """Encodes prompts and decodes answers for one model.

    If the tokenizer has a chat template, a prompt becomes the user's message. Control tokens inside a prompt are split;
    only those that the template or the tokenizer adds keep their function.

    Args:
        config: configuration of the model.
        name: name of the model, as the user wrote it.

    Attributes:
        context: maximum number of tokens of prompt and answer together.
        room: the part of ``context`` that the chat template leaves.

    Raises:
        UserError: the chat template cannot be used.
    """

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.tokenizer, self._name = tokenizer, name
        self._plain_text = PlainText(tokenizer)
        limits = [getattr(config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length]
        stated = [int(limit) for limit in limits if limit and 0 < limit < 1e9]  # tokenizers state 1e30 for "unknown"
        self.context = min(stated, default=DEFAULT_CONTEXT)
        self._frame: list[list[int]] | None = None
        self._opened = ""  # mark of thoughts with which the template ends
        if tokenizer.chat_template:
            remedy = "correct chat_template in the model's folder, or remove it to use prompts without a template"
            frame = chat_frame(tokenizer, f"summarizer {name!r}", remedy)
            self._frame = tokenizer(list(frame), add_special_tokens=False, verbose=False)["input_ids"]
            self._opened = opened_thoughts(frame[1])
        self._hidden = _hidden_ids(tokenizer)
        self.room = self.context - len(self._row(""))

    def count(self, text: str) -> int:
        """Number of tokens of a text, without special ones."""
        return len(self._plain_text.ids([text])[0])

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long; with a fast tokenizer exactly its first characters."""
        return self._plain_text.beginning(text, n_tokens)

    def rows(self, prompts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
        """Ids of every prompt, up to the beginning of its answer.

        Raises:
            ValueError: a prompt leaves no room for the answer.
        """
        rows = [self._row(prompt) for prompt in prompts]
        longest = max(map(len, rows), default=0)
        if longest + max_new_tokens > self.context:
            raise ValueError(
                f"{self._name} has a context of {self.context} tokens, got a prompt of {longest} and an answer of"
                f" {max_new_tokens}"
            )
        return rows

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer, without special tokens other than the marks of thoughts.

        If the chat template opens thoughts, the opening mark is put in front, as the answer contains only the end mark.
        """
        if self._hidden is None:
            return self._opened + str(self.tokenizer.decode(ids, skip_special_tokens=True))
        shown = [number for number in ids if number not in self._hidden]
        return self._opened + str(self.tokenizer.decode(shown, skip_special_tokens=False))

    def _row(self, prompt: str) -> list[int]:
        if self._frame is not None:
            opening, closing = self._frame
            return [*opening, *self._plain_text.ids([prompt])[0], *closing]
        (ids,) = self._plain_text.ids([prompt], framed=True)
        end = self.tokenizer.eos_token_id
        # Some tokenizers add an end token, after which a model generates nothing.
        return ids[:-1] if ids and ids[-1] == end and end != self.tokenizer.bos_token_id else ids


def _hidden_ids(tokenizer: PreTrainedTokenizerBase) -> set[int] | None:
    """Special tokens to leave out of an answer; None means all, if no mark of thoughts is a special token."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    shown = {number for number in special if is_part_of_mark(str(tokenizer.convert_ids_to_tokens(number)))}
    return (special | set(tokenizer.all_special_ids)) - shown if shown else None
