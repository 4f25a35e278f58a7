from __future__ import annotations

import pytest
import torch

from recbole_llmtrsr.llm.lora import apply_lora
from recbole_llmtrsr.model.prefix_attention import SHARED_PREFIX, candidate_bias, shared_prefix_attention
from recbole_llmtrsr.model.rows import plain_rows, shared_prefix_rows
from recbole_llmtrsr.model.scoring import score_plain, score_shared_prefix

YES, NO = 5, 6
EXACT_ARCHITECTURES = [
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma3",
    "granite",
    "cohere",
    "gpt_neox",
    "phi",
    "gpt2",
    "opt",
]


def sections(lengths_of_prefixes, lengths_of_candidates):
    generator = torch.Generator().manual_seed(1)

    def ids(length):
        return torch.randint(10, 300, (length,), generator=generator).tolist()

    return [ids(n) for n in lengths_of_prefixes], [[ids(n) for n in own] for own in lengths_of_candidates]


RAGGED = sections([13, 1, 8], [[3, 5, 1], [4], [7, 2]])


def shared(backbone, prefixes, candidates):
    backbone.transformer.set_attn_implementation(SHARED_PREFIX)
    return score_shared_prefix(backbone, shared_prefix_rows(prefixes, candidates, 0), YES, NO)


def plain(backbone, prefixes, candidates, attention="sdpa"):
    backbone.transformer.set_attn_implementation(attention)
    return score_plain(backbone, plain_rows(prefixes, candidates, 0), YES, NO, batch_size=4)


@pytest.mark.parametrize("architecture", EXACT_ARCHITECTURES)
@torch.no_grad()
def test_shared_scores_equal_plain_scores(tiny, architecture):
    backbone = tiny(architecture)

    expected = plain(backbone, *RAGGED)

    assert expected[expected.isfinite()].std() > 0.05  # otherwise equal scores would mean little
    torch.testing.assert_close(shared(backbone, *RAGGED), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
@torch.no_grad()
def test_one_attention_setting_serves_plain_rows_too(tiny, architecture):
    backbone = tiny(architecture)

    expected = plain(backbone, *RAGGED, attention="eager")

    torch.testing.assert_close(plain(backbone, *RAGGED, attention=SHARED_PREFIX), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@torch.no_grad()
def test_it_serves_a_model_called_without_a_mask_and_generation(tiny, architecture):
    lm = tiny(architecture).lm
    prompt = torch.tensor(RAGGED[0][:1])  # 13 tokens, longer than Mistral's window
    lm.set_attn_implementation("eager")
    logits, text = lm(prompt).logits, lm.generate(prompt, max_new_tokens=6, do_sample=False)

    lm.set_attn_implementation(SHARED_PREFIX)

    torch.testing.assert_close(lm(prompt).logits, logits, atol=1e-5, rtol=0)
    assert lm.generate(prompt, max_new_tokens=6, do_sample=False).tolist() == text.tolist()


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
@torch.no_grad()
def test_batch_mates_padding_and_order_never_change_a_score(tiny, architecture):
    backbone = tiny(architecture)
    prefixes, candidates = RAGGED
    together = shared(backbone, prefixes, candidates)

    for b, (prefix, own) in enumerate(zip(prefixes, candidates)):
        reordered = shared(backbone, [prefix], [own[::-1]])[0].flip(0)
        torch.testing.assert_close(together[b, : len(own)], reordered, atol=1e-5, rtol=0)
        for c, candidate in enumerate(own):
            alone = shared(backbone, [prefix], [[candidate]])[0, 0]
            torch.testing.assert_close(together[b, c], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_rows_attended_to_in_small_groups_score_the_same(tiny, monkeypatch):
    backbone = tiny("llama")
    at_once = shared(backbone, *RAGGED)

    monkeypatch.setitem(shared_prefix_attention.__globals__["_MAX_SCORES_AT_ONCE"], "cpu", 1)

    torch.testing.assert_close(shared(backbone, *RAGGED), at_once, atol=1e-6, rtol=0)


def gradients(backbone, scores):
    backbone.zero_grad()
    torch.nn.functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long)).backward()
    found = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}
    assert any(g.abs().max() > 1e-2 for g in found.values())
    return found


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2", "gpt_neox"])
def test_gradients_of_both_paths_are_equal(tiny, architecture):
    backbone = tiny(architecture)

    expected = gradients(backbone, plain(backbone, *RAGGED))
    found = gradients(backbone, shared(backbone, *RAGGED))

    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_neox"])
def test_gradient_checkpointing_changes_no_gradient(tiny, architecture):
    backbone = tiny(architecture).train()
    expected = gradients(backbone, shared(backbone, *RAGGED))

    backbone.enable_gradient_checkpointing()
    found = gradients(backbone, shared(backbone, *RAGGED))

    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_lora_models_score_and_learn_equally_on_both_paths(tiny, architecture):
    backbone = tiny(architecture)
    with torch.no_grad():
        before = shared(backbone, *RAGGED)
    apply_lora(backbone, rank=2, alpha=4, dropout=0.0)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    backbone.enable_gradient_checkpointing()
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

    expected, found = plain(backbone, *RAGGED), shared(backbone, *RAGGED)

    real = expected.isfinite()
    assert (found - before)[real].abs().max() > 1e-2
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    expected_gradients = gradients(backbone, expected)
    found_gradients = gradients(backbone, found)
    assert expected_gradients.keys() == found_gradients.keys()
    assert all("lora_" in name for name in found_gradients)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_a_slot_sees_the_real_prefix_and_its_own_past():
    rows = shared_prefix_rows([[1, 2, 3], [1]], [[[4, 5]], [[6]]], 0)

    assert (candidate_bias(rows) == 0).int().tolist() == [
        [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
        [[1, 0, 0, 1, 0], [1, 0, 0, 1, 1]],
    ]


def test_a_window_is_counted_in_positions_from_the_prefixs_own_end():
    rows = shared_prefix_rows([[1, 2, 3], [1]], [[[4, 5, 6]], [[7]]], 0)

    assert (candidate_bias(rows, sliding_window=2) == 0).int().tolist() == [
        [[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]],
        [[1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]],
    ]


@pytest.mark.parametrize("option", ["softcap", "s_aux"])
def test_what_it_does_not_compute_is_refused(option):
    rows = shared_prefix_rows([[1, 2]], [[[3]]], 0)
    states = torch.zeros(1, 1, 3, 4)

    with pytest.raises(NotImplementedError, match=f"does not compute {option}"):
        shared_prefix_attention(torch.nn.Module(), states, states, states, None, shared_prefix=rows, **{option: 1.0})
