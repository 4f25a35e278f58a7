from __future__ import annotations

import pytest
import torch
import transformers
from packaging.version import Version

from recbole_llmtrsr.engine.cached_prefix import score_cached_prefix
from recbole_llmtrsr.engine.rows import GroupedPrompts, plain_rows
from recbole_llmtrsr.engine.scoring import score_plain
from recbole_llmtrsr.llm.lora import apply_lora

YES, NO = 5, 6
WITH_KEYS_AND_VALUES = [
    *["llama", "qwen2", "qwen3", "granite", "cohere", "gpt_neox", "phi", "falcon", "gpt2", "opt", "gptj"],
    *["mistral", "gemma3", "phi3", "cohere2"],  # sliding windows
    *["gemma2", "gpt_oss", "bloom", "mpt", "llama4"],  # soft caps, sinks, ALiBi, chunks
    *["olmoe", "deepseek_v3"],  # experts, latent attention
]
WITH_STATES = ["qwen3_next", "lfm2", "mamba2", "falcon_h1", "bamba"]
needs_states_that_continue = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"),
    reason="layers with states start anew behind a cache in older releases of transformers",
)
EXACT_ARCHITECTURES = [
    *WITH_KEYS_AND_VALUES,
    *(pytest.param(name, marks=needs_states_that_continue) for name in WITH_STATES),
]


def sections(lengths_of_prefixes, lengths_of_candidates):
    generator = torch.Generator().manual_seed(1)

    def ids(length):
        return torch.randint(10, 300, (length,), generator=generator).tolist()

    return [ids(n) for n in lengths_of_prefixes], [[ids(n) for n in own] for own in lengths_of_candidates]


RAGGED = sections([11, 1, 8], [[3, 5, 1], [4], [7, 2]])


def cached(backbone, prefixes, candidates, max_tokens=1000):
    return score_cached_prefix(backbone, GroupedPrompts(prefixes, candidates), YES, NO, max_tokens)


def plain(backbone, prefixes, candidates):
    return score_plain(backbone, plain_rows(GroupedPrompts(prefixes, candidates), 0), YES, NO, batch_size=1)


@pytest.fixture
def calls():
    """Given a backbone, the list that will hold the shape of every input of its decoder."""

    def record(backbone):
        shapes = []
        backbone.decoder.register_forward_pre_hook(
            lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )
        return shapes

    return record


@pytest.mark.parametrize("architecture", EXACT_ARCHITECTURES)
@torch.no_grad()
def test_cached_scores_equal_plain_scores_whatever_shares_a_forward(tiny, architecture):
    backbone = tiny(architecture)
    expected = plain(backbone, *RAGGED)

    assert expected[expected.isfinite()].std() > 0.05  # otherwise equal scores would mean little
    assert expected.isneginf().tolist() == [[False] * 3, [False, True, True], [False, False, True]]
    for max_tokens in (1000, 30, 1):
        torch.testing.assert_close(cached(backbone, *RAGGED, max_tokens), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", ["gemma2", "bloom", pytest.param("bamba", marks=needs_states_that_continue)])
@torch.no_grad()
def test_the_order_of_candidates_changes_no_score(tiny, architecture):
    backbone = tiny(architecture)
    prefixes, candidates = sections([9], [[3, 5, 1, 3, 2]])

    scores = cached(backbone, prefixes, candidates, max_tokens=30)
    turned = cached(backbone, prefixes, [candidates[0][::-1]], max_tokens=30)

    torch.testing.assert_close(turned.flip(1), scores, atol=1e-5, rtol=0)


@torch.no_grad()
def test_each_prefix_is_read_once_and_forwards_keep_to_the_budget(tiny, calls):
    backbone = tiny("llama")
    shapes = calls(backbone)
    prefixes, candidates = sections([10, 6], [[3, 5, 1, 4], [2]])

    cached(backbone, prefixes, candidates, max_tokens=30)

    # Rows of 11, 13, 14 and 15 tokens with the prefix: 2 x 13 fit into 30, 3 x 14 do not, 2 x 15 do.
    assert shapes == [(1, 10), (2, 3), (2, 5), (1, 6), (1, 2)]


@torch.no_grad()
def test_a_history_above_the_budget_is_scored_one_candidate_at_a_time(tiny, calls):
    backbone = tiny("llama")
    shapes = calls(backbone)

    cached(backbone, *sections([10], [[3, 5]]), max_tokens=4)

    assert shapes == [(1, 10), (1, 3), (1, 5)]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bloom"])
@torch.no_grad()
def test_an_empty_prefix_and_a_history_without_candidates_are_scored_like_plain_rows(tiny, architecture, calls):
    backbone = tiny(architecture)
    prefixes, candidates = sections([0, 7, 5], [[3, 5], [], [2]])
    expected = plain(backbone, prefixes, candidates)
    shapes = calls(backbone)

    scores = cached(backbone, prefixes, candidates)

    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert shapes == [(2, 5), (1, 5), (1, 2)]


@torch.no_grad()
def test_no_position_lies_beyond_the_longest_prompt(tiny):
    backbone = tiny("gpt2")  # has 20 positions

    prompts = sections([13, 2], [[7, 1], [18]])

    torch.testing.assert_close(cached(backbone, *prompts), plain(backbone, *prompts), atol=1e-5, rtol=0)


def test_lora_layers_take_part(tiny):
    backbone = tiny("gemma2")
    without = cached_without_gradients(backbone)
    torch.manual_seed(0)
    apply_lora(backbone, rank=4, alpha=8, dropout=0.0)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    backbone.eval()

    with torch.no_grad():
        expected = plain(backbone, *RAGGED)

    real = expected.isfinite()
    assert (expected - without)[real].abs().min() > 1e-3
    torch.testing.assert_close(cached_without_gradients(backbone), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def cached_without_gradients(backbone):
    return cached(backbone, *RAGGED)


def test_gradients_are_refused_with_the_remedy(tiny):
    with pytest.raises(RuntimeError, match=r"has no gradients: score under torch\.no_grad\(\), or train on plain"):
        cached(tiny("llama"), *RAGGED)


@torch.no_grad()
def test_a_backbone_that_keeps_nothing_is_refused_by_name(tiny):
    with pytest.raises(RuntimeError, match="backbone 'rwkv' cannot cache keys, values or states of a prefix"):
        cached(tiny("rwkv"), *RAGGED)
