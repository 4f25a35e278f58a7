"""Text generators: prompts in, greedy answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from recbole_llmtrsr.llm.source import ModelSource

DEFAULT_CONTEXT = 2048  # tokens, for models that state no limit


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        text: what was generated, without special tokens.
        n_prompt_tokens: tokens read, with those of the chat template.
        n_new_tokens: tokens generated, with the end token.
        finished: whether the model ended by itself.
    """

    text: str
    n_prompt_tokens: int
    n_new_tokens: int
    finished: bool


class TextGenerator(Protocol):
    """Answers prompts; the same prompt gets the same answer."""

    @property
    def name(self) -> str:
        """Model, and whatever else changes its answers."""
        ...

    @property
    def max_prompt_tokens(self) -> int:
        """Room for prompt and answer together, without what the generator adds itself."""
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text."""
        ...

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long, ending between two characters."""
        ...

    def generate(self, prompts: Sequence[str], max_new_tokens: int) -> list[Generation]:
        """Answer every prompt, in the order given."""
        ...


class TransformersGenerator:
    """Batched greedy decoding with a local model.

    Prompts are sorted by length, padded on the left and masked, so batch mates do not change an answer beyond the
    rounding of the number format. A tokenizer with a chat template gets each prompt as the user's message.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        name: what the user calls it.
        batch_size: most prompts per forward pass.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, batch_size: int = 16
    ) -> None:
        self.name = name
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self._end_ids = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        pad_id = tokenizer.pad_token_id
        self._pad_id = pad_id if pad_id is not None else self._end_ids[0] if self._end_ids else 0
        self._context = _context(model, tokenizer)
        self.max_prompt_tokens = self._context - len(self._prompt_ids(""))

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without special ones."""
        return len(self._ids(text))

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long; with a fast tokenizer a cut of the very characters."""
        if self._tokenizer.is_fast:
            offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            return text if n_tokens >= len(offsets) else text[: offsets[n_tokens - 1][1] if n_tokens else 0]
        return str(self._tokenizer.decode(self._ids(text)[:n_tokens]))

    def generate(self, prompts: Sequence[str], max_new_tokens: int) -> list[Generation]:
        """Answer every prompt.

        Raises:
            ValueError: a prompt leaves no room for the answer; nothing is cut here.
        """
        rows = [self._prompt_ids(prompt) for prompt in prompts]
        longest = max(map(len, rows), default=0)
        if longest + max_new_tokens > self._context:
            raise ValueError(
                f"{self.name} takes {self._context} tokens, got a prompt of {longest} and an answer of {max_new_tokens}"
            )
        answers: dict[int, Generation] = {}
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))  # the longest first: memory fails early if at all
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            answers.update(zip(batch, self._generate_batch([rows[i] for i in batch], max_new_tokens), strict=True))
        return [answers[i] for i in range(len(rows))]

    def _generate_batch(self, rows: list[list[int]], max_new_tokens: int) -> list[Generation]:
        width = max(map(len, rows))
        ids = torch.tensor([[self._pad_id] * (width - len(row)) + row for row in rows])  # [batch_size, width]
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        device = self._model.device
        # A model's own defaults may sample, or penalize repetition; the penalty would count padding as text.
        greedy = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=1.0,
            top_p=1.0,
            top_k=50,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=self._end_ids or None,
            pad_token_id=self._pad_id,
        )
        with torch.inference_mode():
            output: Any = self._model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=greedy
            )
        new = output[:, width:].tolist()  # [batch_size, n_new_tokens]
        return [self._generation(row, answer) for row, answer in zip(rows, new, strict=True)]

    def _generation(self, prompt: list[int], answer: list[int]) -> Generation:
        end = next((position for position, token in enumerate(answer) if token in self._end_ids), None)
        ids = answer if end is None else answer[: end + 1]
        text = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        return Generation(text, len(prompt), len(ids), end is not None)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _prompt_ids(self, prompt: str) -> list[int]:
        if not self._tokenizer.chat_template:
            ids = list(self._tokenizer(prompt, verbose=False)["input_ids"])
            end = self._tokenizer.eos_token_id
            # Some tokenizers end every text; behind an end token a model has nothing more to say.
            return ids[:-1] if ids and ids[-1] == end and end != self._tokenizer.bos_token_id else ids
        message = [{"role": "user", "content": prompt}]
        # Templates without a thinking mode ignore the variable; with one, the answer's tokens would go into thoughts.
        text = self._tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return self._ids(str(text))


def load_generator(
    name_or_folder: str,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    batch_size: int = 16,
    trust_remote_code: bool = False,
) -> TransformersGenerator:
    """Load a model that writes summaries.

    Args:
        name_or_folder: a folder written by `save_pretrained`, or a name on the model hub.
        dtype: of the weights.
        device: where it runs.
        batch_size: most prompts per forward pass.
        trust_remote_code: run the model code that comes with the weights.

    Raises:
        UserError: no such folder, an incomplete one, an unreachable hub, or not a causal language model.
    """
    model, tokenizer = ModelSource.find("summarizer", name_or_folder, trust_remote_code).load(dtype)
    return TransformersGenerator(model.to(device), tokenizer, name_or_folder, batch_size)


def _context(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of prompt and answer together."""
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    stated = [int(limit) for limit in limits if limit and 0 < limit < 1e9]  # tokenizers say 1e30 for "unknown"
    return min(stated, default=DEFAULT_CONTEXT)
