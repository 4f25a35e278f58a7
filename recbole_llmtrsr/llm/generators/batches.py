"""Greedy decoding batch by batch with transformers' `generate`, for models of any kind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from recbole_llmtrsr.llm.generators.places import Answer


def decode_in_batches(
    model: PreTrainedModel, rows: Mapping[int, Sequence[int]], batch_size: int, max_new_tokens: int
) -> Iterator[Answer]:
    """Answer rows of token ids in static batches, padded on the left; a batch waits for its longest answer.

    Args:
        model: its ``generation_config`` states end tokens and padding.
        rows: position -> token ids, in the order in which they are answered.
        batch_size: number of rows of a batch.
        max_new_tokens: maximum number of tokens of an answer.
    """
    waiting, ends = iter(rows.items()), model.generation_config.eos_token_id
    while batch := list(islice(waiting, batch_size)):
        start = time.perf_counter()
        answers = _generate(model, [list(row) for _, row in batch], max_new_tokens)
        seconds = (time.perf_counter() - start) / len(batch)
        for (position, _), ids in zip(batch, answers, strict=True):
            end = next((n for n, token in enumerate(ids, start=1) if token in ends), len(ids))
            yield Answer(position, ids[:end], seconds)


@torch.inference_mode()
def _generate(model: PreTrainedModel, rows: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    width, pad_id = max(map(len, rows)), model.generation_config.pad_token_id
    ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rows])  # [batch_size, width]
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    greedy = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
    output: Any = model.generate(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=greedy
    )
    new: list[list[int]] = output[:, width:].tolist()
    return new
