from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
import transformers
from packaging.version import Version
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from recbole_llmtrsr.engine.attention.prefix_attention import BACKENDS, SHARED_PREFIX, shared_prefix_attention
from recbole_llmtrsr.engine.attention.split import split_attention
from recbole_llmtrsr.engine.exactness import choose_attention
from recbole_llmtrsr.engine.rows import GroupedPrompts, plain_rows
from recbole_llmtrsr.engine.scoring import score_plain
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.lora import apply_lora

YES, NO = 5, 6
# The prompts of the check are longer than the others' positions.
LONGER = {"gpt2": {"n_positions": 64}, "opt": {"max_position_embeddings": 64}}
needs_states_that_continue = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"),
    reason="layers with states start anew behind a cache in older releases of transformers",
)


@pytest.mark.parametrize(
    "architecture",
    ["llama", "mistral", "gemma3", "gpt_neox", "gpt2", "opt", "bert", "gemma2", "gpt_oss", "olmoe", "deepseek_v3"],
)
def test_on_a_cpu_an_exact_backbone_gets_flash_attention(tiny, architecture, caplog):
    backbone = tiny(architecture, **LONGER.get(architecture, {}))

    with caplog.at_level(logging.WARNING):
        assert choose_attention(backbone, YES, NO) == {}

    assert backbone.attention == "flash"
    assert backbone.transformer.config._attn_implementation == SHARED_PREFIX
    assert not [record for record in caplog.records if record.name.startswith("recbole_llmtrsr")]


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_neox"])
def test_bfloat16_weights_are_judged_by_their_own_rounding(tiny, architecture):
    backbone = tiny(architecture).to(torch.bfloat16)

    assert choose_attention(backbone, YES, NO) == {}
    assert backbone.attention == "flash"


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("llama4", "its layers include chunked_attention"),
        pytest.param("qwen3_next", "its layers include linear_attention", marks=needs_states_that_continue),
        ("bloom", "its attention does not go through transformers' attention interface"),
    ],
)
def test_a_backbone_that_cannot_share_keeps_its_own_attention_and_caches_prefixes(tiny, architecture, reason, caplog):
    backbone = tiny(architecture)
    own = backbone.transformer.config._attn_implementation

    with caplog.at_level(logging.WARNING):
        faults = choose_attention(backbone, YES, NO)

    assert faults == {"flash": reason, "split": reason}
    assert backbone.attention == "cached_prefix"
    assert backbone.transformer.config._attn_implementation == own
    assert (
        f"backbone {architecture!r} uses attention: cached_prefix, which is slower than a shared prefix,"
        f" because the faster ones cannot be used: flash: {reason}; split: {reason}"
    ) in caplog.text


def test_a_backbone_that_keeps_nothing_is_scored_plainly(tiny, caplog):
    backbone = tiny("rwkv")
    rows = plain_rows(GroupedPrompts([[20, 30, 40]], [[[80], [81, 82]]]), 0)
    before = score_plain(backbone, rows, YES, NO, 2)

    with caplog.at_level(logging.WARNING):
        faults = choose_attention(backbone, YES, NO)

    assert list(faults) == ["flash", "split", "cached_prefix"]
    assert backbone.attention == "plain"
    assert "'rwkv' uses attention: plain" in caplog.text
    assert faults["cached_prefix"] in caplog.text
    torch.testing.assert_close(score_plain(backbone, rows, YES, NO, 2), before)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gpt_oss", "bloom"])
def test_probing_again_finds_the_same(tiny, architecture):
    backbone = tiny(architecture)

    faults = choose_attention(backbone, YES, NO)
    attention = backbone.attention

    assert choose_attention(backbone, YES, NO) == faults
    assert backbone.attention == attention


@pytest.mark.parametrize("wanted", ["flash", "split", "cached_prefix", "plain"])
def test_a_wanted_back_end_is_taken_without_a_warning(tiny, wanted, caplog):
    backbone = tiny("gemma2")

    with caplog.at_level(logging.WARNING):
        assert choose_attention(backbone, YES, NO, wanted) == {}

    assert backbone.attention == wanted
    assert (backbone.transformer.config._attn_implementation == SHARED_PREFIX) == (wanted in BACKENDS)
    assert not [record for record in caplog.records if record.name.startswith("recbole_llmtrsr")]


def test_a_wanted_back_end_that_is_not_exact_is_an_error_whose_remedy_works(tiny):
    backbone = tiny("llama4")

    with pytest.raises(
        UserError,
        match=r"attention: flash is not exact on backbone 'llama4' \(its layers include chunked_attention\): set att",
    ):
        choose_attention(backbone, YES, NO, "flash")

    assert backbone.attention == "plain"
    choose_attention(backbone, YES, NO, "auto")
    assert backbone.attention == "cached_prefix"


def test_flex_attention_on_a_cpu_scores_frozen_weights_and_is_refused_for_trained_ones(tiny):
    backbone = tiny("llama")
    with pytest.raises(UserError, match="attention: flex is not exact on backbone 'llama'.*backward on CPU"):
        choose_attention(backbone, YES, NO, "flex")

    backbone.requires_grad_(False)

    assert choose_attention(backbone, YES, NO, "flex") == {}
    assert backbone.attention == "flex"


def wrong_scores(states, rows, terms):
    return split_attention(states, rows, replace(terms, window=3))


def wrong_in_chunks(states, rows, terms):
    return split_attention(states, rows, terms if rows.n_prefix_tokens else replace(terms, window=3))


def wrong_in_one_pass(states, rows, terms):
    return split_attention(states, rows, replace(terms, window=3) if len(rows.extents) > 1 else terms)


def nan_in_chunks(states, rows, terms):
    out = split_attention(states, rows, terms)
    return out if rows.n_prefix_tokens else out * float("nan")


def wrong_gradients(states, rows, terms):
    out = split_attention(states, rows, terms)
    return out.detach() + 0.9 * (out - out.detach())


def failing(states, rows, terms):
    raise IndexError("no such block\nin a kernel")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (wrong_scores, "its scores differ from plain scores by"),
        (wrong_in_chunks, "its scores differ from plain scores by"),
        (wrong_in_one_pass, "its scores differ from plain scores by"),
        (nan_in_chunks, "its scores differ from plain scores by nan"),
        (wrong_gradients, "its gradients differ from those of plain rows by"),
        (failing, "IndexError: no such block"),
    ],
)
def test_a_broken_back_end_is_found_out_and_the_next_one_taken(tiny, monkeypatch, broken, reason):
    monkeypatch.setitem(BACKENDS, "flash", broken)
    backbone = tiny("llama")

    faults = choose_attention(backbone, YES, NO)

    assert list(faults) == ["flash"]
    assert faults["flash"].startswith(reason)
    assert "\n" not in faults["flash"]
    assert backbone.attention == "split"


def test_gradients_that_are_no_numbers_are_found_out_in_any_weight(tiny, monkeypatch):
    def nan_to_values(states, rows, terms):
        key, value = states.own[0], states.own[1] * 1.0
        if value.requires_grad:
            value.register_hook(lambda gradient: gradient * float("nan"))
        return split_attention(replace(states, own=(key, value)), rows, terms)

    monkeypatch.setitem(BACKENDS, "flash", nan_to_values)
    backbone = tiny("llama").requires_grad_(False)
    last = backbone.transformer.model.layers[-1].self_attn
    for layer in (last.q_proj, last.v_proj):  # of these, only the second sees a gradient of a value
        layer.requires_grad_(True)

    assert "its gradients differ from those of plain rows" in choose_attention(backbone, YES, NO).get("flash", "")
    assert backbone.attention == "split"


def test_with_no_exact_back_end_left_the_backbones_own_attention_is_back(tiny, monkeypatch):
    for backend in ("flash", "split"):
        monkeypatch.setitem(BACKENDS, backend, wrong_scores)
    backbone = tiny("gemma2")

    assert list(choose_attention(backbone, YES, NO)) == ["flash", "split"]

    assert backbone.attention == "cached_prefix"
    assert backbone.transformer.config._attn_implementation == "eager"


def test_wrong_gradients_of_lora_weights_are_found_out(tiny, monkeypatch):
    monkeypatch.setitem(BACKENDS, "flash", wrong_gradients)
    backbone = tiny("llama")
    apply_lora(backbone, rank=2, alpha=4, dropout=0.0)  # half of its weights are 0, and the others' gradients too

    assert list(choose_attention(backbone, YES, NO)) == ["flash"]


def test_gradients_of_half_their_size_are_found_out_in_half_precision(tiny, monkeypatch):
    def half_the_gradients(states, rows, terms):
        out = split_attention(states, rows, terms)
        return out.detach() + 0.5 * (out - out.detach())

    monkeypatch.setitem(BACKENDS, "flash", half_the_gradients)
    backbone = tiny("llama").to(torch.bfloat16)

    assert "its gradients differ from those of plain rows" in choose_attention(backbone, YES, NO)["flash"]


def test_gradients_of_frozen_weights_are_not_asked_for(tiny, monkeypatch):
    monkeypatch.setitem(BACKENDS, "flash", wrong_gradients)
    backbone = tiny("llama").requires_grad_(False)

    assert choose_attention(backbone, YES, NO) == {}


def test_attention_that_ignores_the_layout_is_found_out(tiny, monkeypatch):
    def leaky(module, query, key, value, attention_mask, shared_prefix=None, **kwargs):
        return shared_prefix_attention(module, query, key, value, None if shared_prefix else attention_mask, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, SHARED_PREFIX, leaky)
    backbone = tiny("llama")

    assert list(choose_attention(backbone, YES, NO)) == ["flash", "split"]
    assert backbone.attention == "cached_prefix"


def test_a_setting_that_spoils_plain_rows_is_found_out(tiny, monkeypatch):
    def only_shared(module, query, key, value, attention_mask, shared_prefix=None, **kwargs):
        out, _ = shared_prefix_attention(
            module, query, key, value, attention_mask, shared_prefix=shared_prefix, **kwargs
        )
        return (out if shared_prefix else 0.5 * out), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, SHARED_PREFIX, only_shared)

    assert list(choose_attention(tiny("llama"), YES, NO)) == ["flash", "split"]


@pytest.mark.parametrize("window", [5, 30])
def test_a_forgotten_window_is_found_out(tiny, monkeypatch, window):
    monkeypatch.setitem(BACKENDS, "flash", lambda s, rows, terms: split_attention(s, rows, replace(terms, window=None)))
    backbone = tiny("mistral", sliding_window=window)

    assert list(choose_attention(backbone, YES, NO)) == ["flash"]


@pytest.mark.parametrize("spoil", [lambda logits: logits**3, lambda logits: logits * float("nan")])
def test_an_output_head_that_is_not_linear_is_an_error_with_a_remedy(tiny, spoil):
    backbone = tiny("llama")
    backbone.lm.lm_head.register_forward_hook(lambda module, args, output: spoil(output))

    with pytest.raises(
        UserError, match=r"'llama' does not compute its logits as hidden states times output head.*`backbone: bu"
    ):
        choose_attention(backbone, YES, NO)


def test_a_backbone_that_fails_on_a_prompt_is_an_error_with_a_remedy(tiny):
    backbone = tiny("llama")
    backbone.decoder.register_forward_pre_hook(lambda module, args: (_ for _ in ()).throw(ValueError("no kernel\nx")))

    with pytest.raises(UserError, match=r"'llama' cannot score a prompt \(ValueError: no kernel\): choose another"):
        choose_attention(backbone, YES, NO)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_probing_draws_nothing_from_the_global_generator(tiny, architecture):
    backbone = tiny(architecture, **LONGER.get(architecture, {})).train()  # GPT-2 has dropout
    before = torch.get_rng_state()

    choose_attention(backbone, YES, NO)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", ["llama", "bloom"])
@pytest.mark.parametrize("training", [True, False])
def test_probing_leaves_weights_gradients_and_mode_as_they_were(tiny, architecture, training):
    backbone = tiny(architecture).train(training)
    first, *others = backbone.parameters()
    first.requires_grad_(False)
    others[0].grad = torch.ones_like(others[0])
    weights = {name: value.clone() for name, value in backbone.state_dict().items()}

    choose_attention(backbone, YES, NO)

    assert all(module.training == training for module in backbone.modules())
    assert [weight.requires_grad for weight in backbone.parameters()] == [False, *[True] * len(others)]
    assert others[0].grad.eq(1).all()
    assert all(weight.grad is None for weight in (first, *others[1:]))
    assert all(torch.equal(value, weights[name]) for name, value in backbone.state_dict().items())


def test_the_mode_is_back_after_an_error_too(tiny):
    backbone = tiny("llama").train()
    backbone.lm.lm_head.register_forward_hook(lambda module, args, output: output**3)

    with pytest.raises(UserError):
        choose_attention(backbone, YES, NO)

    assert backbone.training


@pytest.mark.parametrize(("backend", "is_refused"), [("right", False), ("blind", True)])
def test_in_half_precision_what_both_answers_share_makes_the_probe_no_milder(tiny, monkeypatch, backend, is_refused):
    """Logits of about 20 and scores that span less than 2: not to see the prefix costs less than 5 % of that."""
    backbone = tiny("gpt_neox", initializer_range=0.05).requires_grad_(False)
    with torch.no_grad():
        backbone.lm.gpt_neox.final_layer_norm.bias.fill_(1.0)
        backbone.output_head.weight[[YES, NO]] += 20 / 32
    backbone.to(torch.bfloat16)

    def blind(states, rows, terms):
        key, value = states.prefix
        return split_attention(replace(states, prefix=(key, torch.zeros_like(value))), rows, terms)

    if backend == "blind":
        monkeypatch.setitem(BACKENDS, "flash", blind)

    assert ("its scores differ from plain scores" in choose_attention(backbone, YES, NO).get("flash", "")) == is_refused
