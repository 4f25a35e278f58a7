"""A local text generator: greedy decoding of many prompts with transformers."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import GenerationConfig, PreTrainedModel

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.batches import decode_in_batches
from recbole_llmtrsr.llm.generators.generation import Finish, GeneratedText, MeasuredSpeed
from recbole_llmtrsr.llm.generators.measure import Decode, measure_speed
from recbole_llmtrsr.llm.generators.places import can_refill, decode_in_places
from recbole_llmtrsr.llm.loading.fingerprint import model_fingerprint
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.llm.tokenization.prompt_tokens import PromptTokens

logger = logging.getLogger(__name__)


class TransformersGenerator:
    """Greedy decoding with a model from a folder written by `save_pretrained`, or from the hub.

    Several answers are in progress at a time, and a waiting prompt takes the place of one that ends. Models whose
    caches do not allow this answer batch by batch. The other prompts do not change an answer beyond the rounding of
    the number format. The weights are loaded by the first prompt that needs an answer.

    Args:
        name_or_folder: name or folder of the model.
        dtype: number format of the weights.
        device: device of the model.
        batch_size: maximum number of answers in progress; halved permanently whenever memory runs out.
        trust_remote_code: run the model code that comes with the weights.

    Raises:
        UserError: the folder is missing or incomplete, the hub cannot be reached, or it is not a causal language model.
    """

    def __init__(
        self,
        name_or_folder: str,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        batch_size: int = 32,
        trust_remote_code: bool = False,
    ) -> None:
        source = ModelSource.find("summarizer", name_or_folder, trust_remote_code)
        config, tokenizer = source.load_tokenizer()
        self.name = source.name
        self.settings: Mapping[str, object] = {
            "kind": "transformers",
            "fingerprint": model_fingerprint(source.path),
            "dtype": str(dtype).removeprefix("torch."),
            "decoding": "greedy",
        }
        self._source, self._dtype, self._device = source, dtype, torch.device(device)
        self._tokens = PromptTokens(config, tokenizer, self.name)
        self.max_prompt_tokens = self._tokens.room
        self._batch_size = batch_size
        self._batches_halved = 0

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without special ones."""
        return self._tokens.count(text)

    def trim(self, text: str, n_tokens: int) -> str:
        """The beginning of a text, about n_tokens long."""
        return self._tokens.trim(text, n_tokens)

    def report(self) -> dict[str, int]:
        """The number of times that the batch size was halved."""
        return {"batches_halved": self._batches_halved}

    def generate(self, prompts: Sequence[str], max_new_tokens: int) -> Generator[tuple[int, GeneratedText], None, None]:
        """Answer all prompts, beginning with the longest, and yield each answer as soon as it ends.

        Raises:
            ValueError: a prompt leaves no room for the answer.
            UserError: the weights are damaged, or memory is too small for a single prompt.
        """
        rows = self._tokens.rows(prompts, max_new_tokens)
        waiting = sorted(range(len(rows)), key=lambda i: -len(rows[i]))  # so that memory runs out early, if at all
        while waiting:
            running = self._decode(self._model, {i: rows[i] for i in waiting}, self._batch_size, max_new_tokens)
            try:
                for position, ids, seconds in running:
                    waiting.remove(position)
                    yield position, self._text(rows[position], ids, seconds)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
            if waiting:
                del running  # it holds the cache, as the error held the tensors of the failed pass
                self._halve(min(self._batch_size, len(waiting)), len(rows[waiting[0]]), max_new_tokens)

    def measure(self, prompts: Sequence[str], n_prompts: int, max_new_tokens: int) -> MeasuredSpeed | None:
        """Measure reading and writing on a few prompts that are typical of ``n_prompts`` ones; loads the weights.

        Returns:
            The speed, or None if memory is too small for the batch.
        """
        rows = self._tokens.rows(prompts, max_new_tokens)
        n_places = min(self._batch_size, n_prompts)
        try:
            speed = measure_speed(self._decode, self._model, rows, n_places, max_new_tokens)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            return None
        # Estimates count prompts without the chat template.
        share = sum(map(len, rows)) / max(1, sum(map(self.count_tokens, prompts)))
        return replace(speed, seconds_per_prompt_token=speed.seconds_per_prompt_token * share)

    def _halve(self, n_prompts: int, n_tokens: int, max_new_tokens: int) -> None:
        if n_prompts == 1:
            raise UserError(
                f"summarizer {self.name!r} is out of memory with a single prompt of {n_tokens} tokens and an answer of"
                f" {max_new_tokens}: lower block_size or summarizer_max_new_tokens, set precision: bf16, or choose a"
                " smaller model"
            )
        self._batch_size = n_prompts // 2
        self._batches_halved += 1
        clear_device_cache(garbage_collection=True)
        logger.warning(
            f"summarizer {self.name!r} is out of memory with {n_prompts} prompts at a time: continuing with"
            f" {self._batch_size} (set summarizer_batch_size: {self._batch_size})"
        )

    def _text(self, row: Sequence[int], ids: Sequence[int], seconds: float) -> GeneratedText:
        finish: Finish = "stop" if ids[-1] in self._model.generation_config.eos_token_id else "length"
        return GeneratedText(self._tokens.text(ids), len(row), len(ids), seconds, finish)

    @cached_property
    def _decode(self) -> Decode:
        return decode_in_places if can_refill(self._model) else decode_in_batches

    @cached_property
    def _model(self) -> PreTrainedModel:
        model, _ = self._source.load(self._dtype)
        try:
            model = model.to(self._device).eval()
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            raise UserError(
                f"summarizer {self.name!r} does not fit into the memory of {self._device}: set precision: bf16, or"
                " choose a smaller model"
            ) from error
        # The model's generation defaults may sample, or penalize repetition, which would count padding as text. Only
        # the tokens that end an answer are kept.
        tokenizer, ends = self._tokens.tokenizer, model.generation_config.eos_token_id
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        ends = [*ends, *({tokenizer.eos_token_id} - {None, *ends})]  # models are tuned to end with either
        n_rows = len(model.get_input_embeddings().weight)
        pad_id = next((i for i in (tokenizer.pad_token_id, *ends) if i is not None and i < n_rows), 0)
        model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad_id)
        return model
