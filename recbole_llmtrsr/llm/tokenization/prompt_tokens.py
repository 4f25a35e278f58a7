"""Between prompts and ids, for generators that hold the tokenizer themselves."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from recbole_llmtrsr.llm.tokenization.chat import chat_frame
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText
from recbole_llmtrsr.llm.tokenization.thoughts import is_part_of_mark, opened_thoughts

DEFAULT_CONTEXT = 2048  # tokens, for models that state no limit


class PromptTokens:
    """Makes ids of prompts and text of ids, for one model.

    A tokenizer with a chat template gets each prompt as the user's message. What looks like a control token inside
    a prompt stays text: only those of the template, or of the tokenizer itself, control.

    Args:
        config: the model's.
        tokenizer: its tokenizer.
        name: what the user calls the model.

    Raises:
        UserError: the chat template cannot be used.
    """

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.tokenizer = tokenizer
        self._plain_text = PlainText(tokenizer)
        self.context = _stated_context(config, tokenizer)
        self._name = name
        self._frame: tuple[list[int], list[int]] | None = None
        self._opened = ""
        if tokenizer.chat_template:
            self._frame, self._opened = _frame_ids(tokenizer, name)
        self._hidden = _hidden_ids(tokenizer)
        self.room = self.context - len(self._row(""))

    def count(self, text: str) -> int:
        """Number of tokens of a text, without special ones."""
        return len(self._plain_text.ids([text])[0])

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long; with a fast tokenizer a cut of the very characters."""
        return self._plain_text.beginning(text, n_tokens)

    def rows(self, prompts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
        """Ids of every prompt, up to where its answer begins.

        Raises:
            ValueError: a prompt leaves no room for the answer; nothing is cut here.
        """
        rows = [self._row(prompt) for prompt in prompts]
        longest = max(map(len, rows), default=0)
        if longest + max_new_tokens > self.context:
            raise ValueError(
                f"{self._name} takes {self.context} tokens, got a prompt of {longest} and an answer of {max_new_tokens}"
            )
        return rows

    def text(self, ids: Sequence[int]) -> str:
        """What the ids of an answer say, without special tokens but those that tell thoughts from the answer.

        Where the chat template opens thoughts, their mark stands first: the answer's ids hold only its end.
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
        # Some tokenizers end every text; behind an end token a model has nothing more to say.
        return ids[:-1] if ids and ids[-1] == end and end != self.tokenizer.bos_token_id else ids


def _frame_ids(tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[tuple[list[int], list[int]], str]:
    """Ids of what the chat template writes before and after the user's message, and the mark of thoughts it opens."""
    remedy = "mend chat_template in the model's folder, or remove it there for prompts without a template"
    frame = chat_frame(tokenizer, f"summarizer {name!r}", remedy)
    opening, closing = tokenizer(list(frame), add_special_tokens=False, verbose=False)["input_ids"]
    return (list(opening), list(closing)), opened_thoughts(frame[1])


def _hidden_ids(tokenizer: PreTrainedTokenizerBase) -> set[int] | None:
    """Special tokens that an answer is shown without; None, which is all of them, where no mark of thoughts is one."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    shown = {number for number in special if is_part_of_mark(str(tokenizer.convert_ids_to_tokens(number)))}
    return (special | set(tokenizer.all_special_ids)) - shown if shown else None


def _stated_context(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    limits = [getattr(config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length]
    stated = [int(limit) for limit in limits if limit and 0 < limit < 1e9]  # tokenizers say 1e30 for "unknown"
    return min(stated, default=DEFAULT_CONTEXT)
