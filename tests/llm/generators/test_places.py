from __future__ import annotations

import random
import time
from functools import wraps
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.models.auto import CONFIG_MAPPING

from recbole_llmtrsr.llm.generators.batches import decode_in_batches
from recbole_llmtrsr.llm.generators.places import Answer, can_refill, decode_in_places

SIZES: dict[str, Any] = dict(
    vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
NEW = 10
MULTI_HEAD = {"num_key_value_heads": 4}
MOE = {"num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
REFILLED: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen2": {"use_sliding_window": False}, "qwen3": {"head_dim": 8}, "gpt2": {}, "gpt_neox": MULTI_HEAD,
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16}, "phi": MULTI_HEAD, "gemma": {"head_dim": 4}, "olmo": {},
    "cohere": {}, "granite": {}, "mixtral": MOE, "qwen2_moe": MOE,
}  # fmt: skip
STATIC: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8}, "gemma2": {"head_dim": 4, "sliding_window": 8}, "bloom": {}, "mamba": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "llama": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}},
}  # fmt: skip


def make(kind: str, **options: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**SIZES, **options})).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:  # large weights, so that answers depend on prompts
            torch.nn.init.normal_(parameter, std=1.0)
    model.generation_config = GenerationConfig(eos_token_id=[2], pad_token_id=0)
    return model


def rows(n: int = 7, shared: int = 5) -> dict[int, list[int]]:
    """Rows of 2 to 10 tokens behind a shared prefix, the longest first."""
    chance = random.Random(0)
    prefix = [chance.randrange(3, 61) for _ in range(shared)]
    made = [prefix + [chance.randrange(3, 61) for _ in range(chance.randrange(2, 11))] for _ in range(n)]
    return dict(sorted(enumerate(made), key=lambda pair: -len(pair[1])))


def passes(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The number of rows and tokens a row, of every pass from now on."""
    forward, seen = model.forward, []

    @wraps(forward)
    def counted(**options: Any) -> Any:
        seen.append(tuple(options["input_ids"].shape))
        return forward(**options)

    monkeypatch.setattr(model, "forward", counted)
    return seen


def texts(answers: list[Answer]) -> dict[int, list[int]]:
    return {answer.position: answer.ids for answer in answers}


def with_mixed_lengths(kind: str, **options: Any) -> PreTrainedModel:
    """A model whose answers end at different lengths, by the end token that makes most lengths different."""
    model = make(kind, **options)
    written = texts(list(decode_in_batches(model, rows(), 1, NEW))).values()

    def lengths(end: int) -> set[int]:
        return {ids.index(end) if end in ids else NEW for ids in written}

    best = max({token for ids in written for token in ids}, key=lambda token: len(lengths(token)))
    assert len(lengths(best)) > 2
    model.generation_config.eos_token_id = [2, best]
    return model


@pytest.mark.parametrize(("kind", "options"), REFILLED.items())
def test_answers_equal_those_of_one_prompt_at_a_time(kind: str, options: dict[str, Any]) -> None:
    model = with_mixed_lengths(kind, **options)
    assert can_refill(model)
    alone = texts(list(decode_in_batches(model, rows(), 1, NEW)))
    for n_places in (1, 3, 20):
        assert texts(list(decode_in_places(model, rows(), n_places, NEW))) == alone


@pytest.mark.parametrize(("kind", "options"), STATIC.items())
def test_models_whose_rows_cannot_be_of_different_ages_answer_in_batches(kind: str, options: dict[str, Any]) -> None:
    assert not can_refill(make(kind, **options))


def test_a_place_is_filled_as_soon_as_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_mixed_lengths("llama")
    seen = passes(model, monkeypatch)
    longest = [len(row) for row in rows().values()]
    answers = list(decode_in_places(model, rows(), 3, NEW))
    assert seen[:2] == [(1, 5), (3, longest[0] - 5)]  # the prefix once, then three rows without it
    reads = [n for n, (_, n_tokens) in enumerate(seen) if n_tokens > 1]
    assert sum(seen[n][0] for n in reads[1:]) == len(rows())
    assert {n_rows for n_rows, _ in seen[2 : reads[-1]]} <= {1, 2, 3}
    assert all(n_rows == 3 for n_rows, n_tokens in seen[2 : reads[-1]] if n_tokens == 1)
    assert sum(n_rows for n_rows, _ in seen[1:]) == sum(len(answer.ids) for answer in answers)  # none after its end


def test_memory_is_bounded_by_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_mixed_lengths("llama")
    seen = set()
    forward = model.forward

    @wraps(forward)
    def watched(**options: Any) -> Any:
        cache = options.get("cache", options.get("past_key_values"))
        seen.update(tuple(layer.keys.shape) for layer in cache.layers if layer.keys is not None)
        return forward(**options)

    monkeypatch.setattr(model, "forward", watched)
    longest = max(map(len, rows().values()))
    list(decode_in_places(model, rows(), 3, NEW))
    assert max(shape[0] for shape in seen) == 3
    assert max(shape[2] for shape in seen) == longest + NEW


def test_an_equal_row_and_a_row_that_is_all_prefix_keep_a_token() -> None:
    model = make("llama")
    same = {0: [7, 8, 9, 10], 1: [7, 8, 9, 10], 2: [7, 8]}
    assert texts(list(decode_in_places(model, same, 2, 6))) == texts(list(decode_in_batches(model, same, 1, 6)))


def test_seconds_of_answers_add_up_to_the_time_without_that_between_them() -> None:
    model = with_mixed_lengths("llama")
    start, waited, total = time.perf_counter(), 0.0, 0.0
    for answer in decode_in_places(model, rows(), 3, NEW):
        total += answer.seconds
        time.sleep(0.02)
        waited += 0.02
    assert 0 < total <= time.perf_counter() - start - waited
