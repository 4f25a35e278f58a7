"""Scores and gradients of shared-prefix rows are those of plain rows, by every back-end and architecture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmtrsr.engine.attention import split
from recbole_llmtrsr.engine.attention.prefix_attention import (
    BACKENDS,
    SHARED_PREFIX,
    PrefixAttention,
    backends_for,
    shared_prefix_attention,
)
from recbole_llmtrsr.engine.attention.terms import States, Terms
from recbole_llmtrsr.engine.rows import GroupedPrompts, plain_rows, shared_prefix_rows
from recbole_llmtrsr.engine.scoring import score_plain, score_shared_prefix
from recbole_llmtrsr.llm.lora import apply_lora

YES, NO = 5, 6
ARCHITECTURES = [
    *["llama", "qwen2", "qwen3", "granite", "cohere", "gpt_neox", "phi", "gpt2", "opt", "bert"],
    *["mistral", "gemma3", "phi3", "cohere2"],  # sliding windows
    *["gemma2", "gpt_oss"],  # soft caps, sinks
    *["olmoe", "deepseek_v3"],  # experts, values of another size than keys
]
# FlexAttention has no backward pass on a CPU.
LEARNING = ["flash", "split"]
# Of the architectures of every kind one, for FlexAttention, which takes a second each on a CPU; the others are slow.
ONE_OF_EACH = ["llama", "mistral", "gemma2", "gpt_oss"]
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def with_every_backend(architectures, with_flex=ONE_OF_EACH):
    """Pairs; those with FlexAttention are slow for other architectures than these."""
    return [
        pytest.param(name, backend, marks=[pytest.mark.slow] if backend == "flex" and name not in with_flex else [])
        for name in architectures
        for backend in BACKENDS
    ]


def shared(backbone, prefixes, candidates, backend):
    backbone.transformer.set_attn_implementation(SHARED_PREFIX)
    backbone.attention = backend
    return score_shared_prefix(backbone, shared_prefix_rows(GroupedPrompts(prefixes, candidates)), YES, NO)


def plain(backbone, prefixes, candidates, attention="eager"):
    backbone.transformer.set_attn_implementation(attention)
    return score_plain(backbone, plain_rows(GroupedPrompts(prefixes, candidates), 0), YES, NO, batch_size=4)


def gradients(backbone, scores):
    """Of a loss that weighs every real score differently."""
    backbone.zero_grad()
    real = scores[scores.isfinite()]
    (real * torch.linspace(-1, 1, len(real), device=real.device)).sum().backward()
    found = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}
    assert any(g.abs().max() > 1e-2 for g in found.values())
    return found


def assert_equal_gradients(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=tolerance, rtol=tolerance, msg=name)


@pytest.mark.parametrize(("architecture", "backend"), with_every_backend(ARCHITECTURES))
@torch.no_grad()
def test_shared_scores_equal_plain_scores(tiny, ragged, architecture, backend):
    backbone = tiny(architecture)

    expected = plain(backbone, *ragged)

    assert expected[expected.isfinite()].std() > 0.05  # otherwise equal scores would mean little
    assert expected.isneginf().sum() == 5
    torch.testing.assert_close(shared(backbone, *ragged, backend), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("backend", LEARNING)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_of_shared_and_plain_rows_are_equal(tiny, ragged, architecture, backend):
    backbone = tiny(architecture)

    expected = gradients(backbone, plain(backbone, *ragged))

    assert_equal_gradients(gradients(backbone, shared(backbone, *ragged, backend)), expected)


@pytest.mark.parametrize("backend", LEARNING)
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_neox", "gpt2", "gpt_oss"])
def test_gradient_checkpointing_changes_no_gradient(tiny, ragged, architecture, backend):
    backbone = tiny(architecture).train()  # GPT-2 with the same dropout in the recomputation

    def found():
        torch.manual_seed(0)
        return gradients(backbone, shared(backbone, *ragged, backend))

    expected = found()
    backbone.enable_gradient_checkpointing()

    assert_equal_gradients(found(), expected, tolerance=1e-5)


@pytest.mark.parametrize("backend", LEARNING)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_lora_models_score_and_learn_equally_on_both_layouts(tiny, ragged, architecture, backend):
    backbone = tiny(architecture)
    with torch.no_grad():
        before = shared(backbone, *ragged, backend)
    apply_lora(backbone, rank=2, alpha=4, dropout=0.0)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    backbone.enable_gradient_checkpointing()
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0

    # One after the other: the recomputation attends as the model is set by then.
    expected = plain(backbone, *ragged)
    expected_gradients = gradients(backbone, expected)
    found = shared(backbone, *ragged, backend)
    found_gradients = gradients(backbone, found)

    real = expected.isfinite()
    assert (found - before)[real].abs().max() > 1e-2
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert all("lora_" in name for name in found_gradients)
    assert_equal_gradients(found_gradients, expected_gradients)


@pytest.mark.parametrize(
    ("architecture", "backend"), with_every_backend(["llama", "mistral", "gpt2", "gemma2"], ["mistral"])
)
@torch.no_grad()
def test_batch_mates_and_order_never_change_a_score(tiny, ragged, architecture, backend):
    backbone = tiny(architecture)
    prefixes, candidates = ragged
    together = shared(backbone, prefixes, candidates, backend)

    turned = shared(backbone, prefixes[::-1], candidates[::-1], backend).flip(0)
    torch.testing.assert_close(turned, together, atol=1e-5, rtol=0)
    for b, (prefix, own) in enumerate(zip(prefixes, candidates)):
        if own:
            reordered = shared(backbone, [prefix], [own[::-1]], backend)[0].flip(0)
            torch.testing.assert_close(together[b, : len(own)], reordered, atol=1e-5, rtol=0)
        for c, candidate in enumerate(own):
            alone = shared(backbone, [prefix], [[candidate]], backend)[0, 0]
            torch.testing.assert_close(together[b, c], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_a_candidate_listed_twice_scores_the_same_twice(tiny, ragged, backend):
    prefixes, candidates = ragged

    scores = shared(tiny("llama"), prefixes, [own * 2 for own in candidates], backend)

    torch.testing.assert_close(scores[0, :3], scores[0, 3:], atol=1e-6, rtol=0)
    assert scores[0, :3].std() > 0.05


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_oss"])
@torch.no_grad()
def test_split_attention_over_few_heads_at_a_time_is_the_same(tiny, ragged, architecture, monkeypatch):
    backbone = tiny(architecture)  # 4 heads share 2 key heads
    at_once = shared(backbone, *ragged, "split")

    monkeypatch.setitem(split._MAX_SCORES_AT_ONCE, "cpu", 1)

    torch.testing.assert_close(shared(backbone, *ragged, "split"), at_once, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "backend"),
    with_every_backend(["llama", "mistral", "gemma2", "gpt_oss", "gpt2", "deepseek_v3"], ["llama"]),
)
@torch.no_grad()
def test_bfloat16_changes_scores_no_more_than_its_rounding_does(tiny, ragged, architecture, backend):
    backbone = tiny(architecture)
    exact = plain(backbone, *ragged)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = shared(backbone, *ragged, backend)
    weights = shared(backbone.to(torch.bfloat16), *ragged, backend)

    assert exact[exact.isfinite()].std() > 0.5
    for scores in (autocast, weights):
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, exact, atol=0.2, rtol=0)


@pytest.mark.parametrize("backend", LEARNING)
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_oss"])
def test_autocast_gradients_point_where_exact_ones_do(tiny, ragged, architecture, backend):
    backbone = tiny(architecture)
    exact = gradients(backbone, plain(backbone, *ragged))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = shared(backbone, *ragged, backend)
    found = gradients(backbone, scores)

    flat, expected = (torch.cat([g[name].flatten() for name in exact]) for g in (found, exact))
    assert torch.nn.functional.cosine_similarity(flat, expected, dim=0) > 0.995


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_attention_dropout_drops_in_training_and_not_in_evaluation(tiny, ragged, backend):
    backbone = tiny("llama", attention_dropout=0.5)
    expected = plain(backbone, *ragged)

    torch.testing.assert_close(shared(backbone, *ragged, backend), expected, atol=1e-5, rtol=0)
    backbone.train()
    torch.manual_seed(0)
    first, second = shared(backbone, *ragged, backend), shared(backbone, *ragged, backend)

    real = expected.isfinite()
    assert (first - second)[real].abs().min() > 1e-3
    torch.manual_seed(0)
    torch.testing.assert_close(shared(backbone, *ragged, "split"), first)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_one_attention_setting_serves_plain_rows_too(tiny, ragged, architecture):
    backbone = tiny(architecture)

    expected = plain(backbone, *ragged)

    torch.testing.assert_close(plain(backbone, *ragged, attention=SHARED_PREFIX), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2", "gemma2", "gpt_oss"])
@torch.no_grad()
def test_it_serves_a_model_called_without_a_mask_and_generation(tiny, ragged, architecture):
    lm = tiny(architecture).lm
    prompt = torch.tensor(ragged[0][:1])  # 13 tokens, longer than the windows
    # The second prompt is padded on the left, so some of its tokens see nothing.
    padded = torch.cat([prompt, torch.cat([torch.zeros(1, 9, dtype=torch.long), prompt[:, :4]], dim=1)])

    def answers():
        options = {"max_new_tokens": 6, "do_sample": False}
        texts = [
            lm.generate(ids, attention_mask=(ids != 0).long(), **options).tolist() for ids in (prompt[:, :4], padded)
        ]
        return lm(prompt).logits, texts

    lm.set_attn_implementation("eager")
    logits, texts = answers()
    lm.set_attn_implementation(SHARED_PREFIX)
    found_logits, found_texts = answers()

    torch.testing.assert_close(found_logits, logits, atol=1e-5, rtol=0)
    assert found_texts == texts


ROWS = (([[1, 2, 3], [], [1]], [[[4, 5], [6]], [], [[7]]]), 8)  # 4 tokens of prefixes, 4 of candidates
SEEN = [
    [1, 0, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0, 0, 0],
    [1, 1, 1, 0, 0, 0, 0, 0],
    [0, 0, 0, 1, 0, 0, 0, 0],
    [1, 1, 1, 0, 1, 0, 0, 0],
    [1, 1, 1, 0, 1, 1, 0, 0],
    [1, 1, 1, 0, 0, 0, 1, 0],
    [0, 0, 0, 1, 0, 0, 0, 1],
]
SEEN_IN_A_WINDOW_OF_TWO = [
    [1, 0, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0, 0, 0],
    [0, 0, 0, 1, 0, 0, 0, 0],
    [0, 0, 1, 0, 1, 0, 0, 0],
    [0, 0, 0, 0, 1, 1, 0, 0],
    [0, 0, 1, 0, 0, 0, 1, 0],
    [0, 0, 0, 1, 0, 0, 0, 1],
]


def weights(backend, **arguments):
    """Attention weights [N, N] of equal scores: values are one-hot. Keys of another head would show as well."""
    sections, n = ROWS
    rows = shared_prefix_rows(GroupedPrompts(*sections))
    zeros, one_hot = torch.zeros(1, 2, n, n), torch.eye(n).expand(1, 2, n, n)
    out, _ = shared_prefix_attention(
        nn.Module(), zeros, zeros, one_hot, None, shared_prefix=PrefixAttention(rows, backend), **arguments
    )
    torch.testing.assert_close(out[0, :, 0], out[0, :, 1])
    return out[0, :, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("window", "seen"), [(None, SEEN), (100, SEEN), (2, SEEN_IN_A_WINDOW_OF_TWO)])
def test_a_token_sees_its_own_prefix_and_its_own_past_within_the_window(backend, window, seen):
    seen = torch.tensor(seen)

    expected = seen / seen.sum(dim=1, keepdim=True)

    torch.testing.assert_close(weights(backend, sliding_window=window), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sink_takes_weight_like_one_more_key_that_gives_nothing(backend):
    found = weights(backend, s_aux=torch.zeros(2))

    expected = [1 / 2, 2 / 3, 3 / 4, 1 / 2, 4 / 5, 5 / 6, 4 / 5, 2 / 3]
    torch.testing.assert_close(found.sum(dim=1), torch.tensor(expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_sinks_belong_to_heads(backend):
    rows = shared_prefix_rows(GroupedPrompts([[1]], [[[2]]]))
    zeros, ones = torch.zeros(1, 2, 2, 4), torch.ones(1, 2, 2, 4)

    out, _ = shared_prefix_attention(
        nn.Module(),
        zeros,
        zeros,
        ones,
        None,
        shared_prefix=PrefixAttention(rows, backend),
        s_aux=torch.tensor([0.0, 3.0]).log(),
    )

    torch.testing.assert_close(out[0, :, :, 0], torch.tensor([[1.0, 1 / 4], [1.0, 2 / 5]]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_weight_is_dropped_or_scaled_up(backend):
    torch.manual_seed(0)

    found = torch.stack([weights_with_dropout(backend) for _ in range(200)])

    assert set(found.unique().tolist()) == {0.0, 4.0}  # one key, so its weight is 1
    assert found.mean() == pytest.approx(1.0, abs=0.2)


def weights_with_dropout(backend):
    rows = shared_prefix_rows(GroupedPrompts([[]], [[[2]]]))
    zeros, ones = torch.zeros(1, 4, 1, 2), torch.ones(1, 4, 1, 2)
    layout = PrefixAttention(rows, backend)
    return shared_prefix_attention(nn.Module(), zeros, zeros, ones, None, dropout=0.75, shared_prefix=layout)[0][..., 0]


def states(rows, *, last_dimension_strided, n_key_heads):
    """Random states and the tensors they are made of."""
    n, generator = rows.n_prefix_tokens, torch.Generator().manual_seed(0)

    def drawn(heads):
        x = torch.randn(1, heads, rows.input_ids.shape[1], 8, generator=generator)
        return (x.mT.contiguous().mT if last_dimension_strided else x).requires_grad_()

    query, key, value = drawn(4), drawn(n_key_heads), drawn(n_key_heads)
    prefix, own = ((key[:, :, part], value[:, :, part]) for part in (slice(n), slice(n, None)))
    return States(query, prefix, own), (query, key, value)


@pytest.mark.parametrize("n_key_heads", [4, 2])
@pytest.mark.parametrize("backend", LEARNING)
def test_the_memory_layout_of_states_does_not_matter(ragged, backend, n_key_heads):
    rows = shared_prefix_rows(GroupedPrompts(*ragged))
    found = []

    for strided in (False, True):
        given, leaves = states(rows, last_dimension_strided=strided, n_key_heads=n_key_heads)
        out = BACKENDS[backend](given, rows, Terms(scaling=0.4))
        found.append([out, *torch.autograd.grad(out.sum(), leaves)])

    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("argument", ["position_bias", "cache"])
def test_what_it_does_not_compute_is_refused(argument):
    with pytest.raises(NotImplementedError, match=f"does not support {argument}"):
        weights("split", **{argument: torch.zeros(1)})


def test_attention_that_looks_ahead_is_refused():
    with pytest.raises(NotImplementedError, match="does not support is_causal=False"):
        weights("split", is_causal=False)


def test_a_key_value_cache_is_refused_with_the_remedy():
    rows = shared_prefix_rows(GroupedPrompts([[1, 2]], [[[3]]]))
    query, key = torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 5, 4)

    with pytest.raises(NotImplementedError, match="does not support a key-value cache: pass use_cache=False"):
        shared_prefix_attention(
            nn.Module(), query, key, key, None, shared_prefix=PrefixAttention(rows, "split"), scaling=1.0
        )


def test_flash_attention_is_refused_off_the_cpu():
    rows = shared_prefix_rows(GroupedPrompts([[1, 2]], [[[3]]])).to("meta")
    given, _ = states(
        shared_prefix_rows(GroupedPrompts([[1, 2]], [[[3]]])), last_dimension_strided=False, n_key_heads=4
    )
    elsewhere = States(given.query.to("meta"), given.prefix, given.own)

    with pytest.raises(NotImplementedError, match="runs on a CPU, not on meta"):
        BACKENDS["flash"](elsewhere, rows, Terms(scaling=1.0))


def test_every_device_has_a_back_end_that_computes_everything_last():
    assert backends_for(torch.device("cpu")) == ("flash", "split")
    assert backends_for(torch.device("cuda", 1)) == ("flex", "split")
    assert backends_for(torch.device("mps")) == ("split",)


@pytest.mark.parametrize("backend", [pytest.param("flex", marks=needs_gpu), pytest.param("split", marks=needs_gpu)])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_on_a_gpu_scores_and_gradients_equal_plain_ones(tiny, ragged, architecture, backend):
    backbone = tiny(architecture, head_dim=16).to("cuda")  # the least that FlexAttention's kernels take

    expected, found = plain(backbone, *ragged), shared(backbone, *ragged, backend)

    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    expected_gradients = gradients(backbone, expected)
    assert_equal_gradients(gradients(backbone, found), expected_gradients, tolerance=1e-2)
