from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recbole_llmtrsr.engine import language_loss as module
from recbole_llmtrsr.engine.attention.prefix_attention import BACKENDS, SHARED_PREFIX
from recbole_llmtrsr.engine.language_loss import language_loss, next_tokens
from recbole_llmtrsr.engine.rows import GroupedPrompts

YES, NO = 5, 6
ANSWERS = [[YES, NO, NO], [NO, YES, YES], [NO, NO, NO], [YES, YES, NO]]  # of `ragged`; some slots are dummies
ARCHITECTURES = ["llama", "gpt2", "opt", "bert", "gemma2", "granite", "cohere", "gpt_oss"]  # heads of all kinds


def expected_loss(backbone, prefixes, candidates, answers):
    """From the model's own logits, one prompt at a time."""
    backbone.transformer.set_attn_implementation("eager")
    losses = []
    for prefix, own, right in zip(prefixes, candidates, answers):
        for section, answer in zip(own, right):
            ids = torch.tensor([[*prefix, *section, answer]])
            logits = backbone.lm(input_ids=ids, use_cache=False).logits[0, :-1]
            losses.append(F.cross_entropy(logits.float(), ids[0, 1:], reduction="none"))
    return torch.cat(losses).mean()


def loss_of(backbone, attention, prompts, answers=ANSWERS):
    backbone.transformer.set_attn_implementation(SHARED_PREFIX if attention in BACKENDS else "eager")
    backbone.attention = attention
    return language_loss(backbone, GroupedPrompts(*prompts), answers)


def gradients(backbone, loss):
    backbone.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in backbone.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("attention", [*BACKENDS, "cached_prefix", "plain"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_loss_is_the_mean_cross_entropy_of_the_models_own_logits(tiny, ragged, architecture, attention):
    backbone = tiny(architecture)

    expected = expected_loss(backbone, *ragged, ANSWERS)

    torch.testing.assert_close(loss_of(backbone, attention, ragged), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["flash", "split", "plain"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_gradients_are_those_of_the_models_own_logits(tiny, ragged, architecture, attention):
    backbone = tiny(architecture)

    expected = gradients(backbone, expected_loss(backbone, *ragged, ANSWERS))
    found = gradients(backbone, loss_of(backbone, attention, ragged))

    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("attention", ["split", "plain"])
@pytest.mark.parametrize("n_logits", [1, 300 * 7, 300 * 10_000])
def test_logits_exist_for_some_tokens_at_a_time_which_changes_nothing(tiny, ragged, monkeypatch, attention, n_logits):
    backbone = tiny("llama")
    expected = gradients(backbone, loss := expected_loss(backbone, *ragged, ANSWERS))
    sizes = []
    backbone.output_head.register_forward_hook(lambda module, args, output: sizes.append(output.numel()))
    monkeypatch.setattr(module, "_MAX_LOGITS_AT_ONCE", n_logits)

    found = loss_of(backbone, attention, ragged)
    n_calls = len(sizes)
    found_gradients = gradients(backbone, found)

    torch.testing.assert_close(found, loss, atol=1e-5, rtol=0)
    assert max(sizes) <= max(n_logits, 300)
    assert len(sizes) == 2 * n_calls  # once more in the backward pass: none were kept
    for name, gradient in expected.items():
        torch.testing.assert_close(found_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("attention", ["flash", "split", "plain"])
def test_gradient_checkpointing_changes_no_gradient(tiny, ragged, attention):
    backbone = tiny("llama").train()
    expected = gradients(backbone, loss_of(backbone, attention, ragged))

    backbone.enable_gradient_checkpointing()

    for name, gradient in gradients(backbone, loss_of(backbone, attention, ragged)).items():
        torch.testing.assert_close(expected[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("attention", ["flash", "split", "plain"])
def test_under_autocast_the_loss_is_float32_and_near(tiny, ragged, attention):
    backbone = tiny("gemma2")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(backbone, attention, ragged)
    loss.backward()

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected_loss(backbone, *ragged, ANSWERS), atol=2e-2, rtol=0)


@pytest.mark.parametrize("attention", ["split", "plain"])
@torch.no_grad()
def test_answers_of_dummy_slots_are_not_read_and_others_are(tiny, ragged, attention):
    backbone = tiny("llama")
    loss = loss_of(backbone, attention, ragged)

    unread, read = ([list(ids) for ids in ANSWERS] for _ in range(2))
    unread[1][2], unread[2] = 7, [7, 7, 7]
    read[1][1] = NO

    assert loss_of(backbone, attention, ragged, unread) == loss
    assert (loss_of(backbone, attention, ragged, read) - loss).abs() > 1e-4


@torch.no_grad()
def test_arrays_are_read_like_lists(tiny, ragged):
    prefixes, candidates = ragged
    arrays = [np.array(x, dtype=np.int64) for x in prefixes], [[np.array(x) for x in own] for own in candidates]
    backbone = tiny("llama")

    for attention in ("split", "plain"):
        assert loss_of(backbone, attention, arrays) == loss_of(backbone, attention, ragged)


def test_a_prefixs_tokens_count_for_each_candidate_and_its_last_is_followed_by_each():
    following = next_tokens(GroupedPrompts([[11, 12], [21]], [[[31, 32], [33]], [[41]]]), [[YES, NO], [NO, NO]])

    # Laid out as 11 12 21 31 32 33 41; the pairs of a token and its target, and how many prompts hold them.
    pairs = zip(following.token.tolist(), following.target.tolist(), following.weight.tolist())
    assert sorted(pairs) == [
        (0, 12, 2.0),
        (1, 31, 1.0),
        (1, 33, 1.0),
        (2, 41, 1.0),
        (3, 32, 1.0),
        (4, YES, 1.0),
        (5, NO, 1.0),
        (6, NO, 1.0),
    ]


def test_without_a_prefix_nothing_precedes_a_candidate_and_without_candidates_nothing_counts():
    following = next_tokens(GroupedPrompts([[], [21, 22]], [[[31, 32]], []]), [[YES], [NO]])

    # Laid out as 21 22 31 32.
    pairs = [p for p in zip(following.token.tolist(), following.target.tolist(), following.weight.tolist()) if p[2]]
    assert sorted(pairs) == [(2, 32, 1.0), (3, YES, 1.0)]
