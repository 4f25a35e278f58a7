from __future__ import annotations

import copy

import pytest
import torch
from peft.tuners.lora.layer import Linear
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.lora import apply_lora
from recbole_llmtrsr.llm.low_rank import SharedDropout

CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=260,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    ),
    "gpt2": GPT2Config(vocab_size=260, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2),
}
IDS = torch.arange(3, 43).view(2, 20)


def adapted(architecture="llama", dropout=0.0, dtype=torch.float32):
    lm = AutoModelForCausalLM.from_config(CONFIGS[architecture]).to(dtype)
    lm.config._attn_implementation = "eager"
    backbone = Backbone(lm, train_tokenizer(["a"]), architecture)
    apply_lora(backbone, rank=2, alpha=4, dropout=dropout)
    for name, weight in backbone.named_parameters():
        if "lora_B" in name:  # zeros at the beginning
            torch.nn.init.normal_(weight)
    for part in backbone.modules():  # only those of LoRA are drawn in these tests
        if isinstance(part, torch.nn.Dropout) and not isinstance(part, SharedDropout):
            part.p = 0.0
    return backbone.train()


def logits_and_gradients(backbone):
    backbone.zero_grad()
    logits = backbone.lm(input_ids=IDS).logits
    logits.float().square().sum().backward()
    return logits, {name: weight.grad for name, weight in backbone.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_outputs_and_gradients_are_those_of_peft(architecture):
    backbone = adapted(architecture)
    logits, gradients = logits_and_gradients(backbone)
    layers = [part for part in backbone.modules() if isinstance(part, Linear)]
    for layer in layers:
        del layer.forward

    expected, expected_gradients = logits_and_gradients(backbone)

    assert layers
    assert gradients.keys() == expected_gradients.keys()
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(gradients, expected_gradients)


def test_half_precision_stays_near_full_precision():
    backbone = adapted()
    expected = backbone.lm(input_ids=IDS).logits
    for name, weight in backbone.named_parameters():
        if "lora_" not in name:
            weight.data = weight.data.bfloat16()

    with torch.autocast("cpu", torch.bfloat16):
        logits = backbone.lm(input_ids=IDS).logits

    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()


def dropped_inputs(backbone):
    """The inputs after dropout, in groups of those of the same tensor."""
    calls = []
    for part in backbone.modules():
        if isinstance(part, SharedDropout):
            part.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    backbone.lm(input_ids=IDS)
    groups = {id(x): [] for x, _ in calls}
    for x, output in calls:
        groups[id(x)].append(output)
    return list(groups.values())


def test_queries_keys_and_values_share_one_mask_and_the_output_has_another():
    groups = dropped_inputs(adapted(dropout=0.5))

    assert [len(outputs) for outputs in groups] == [3, 1, 3, 1]  # in two layers q, k, v, and o
    assert all(output is outputs[0] for outputs in groups for output in outputs)


def test_masks_drop_the_stated_share_and_keep_the_mean():
    dropout, x = SharedDropout(0.05), torch.ones(1000, 1000)

    y = dropout(x)

    assert abs(float((y == 0).float().mean()) - 0.05) < 0.001
    assert abs(float(y.mean()) - 1) < 0.001
    assert dropout(x) is y
    assert not torch.equal(dropout(x.clone()) == 0, y == 0)
    assert dropout.eval()(x) is x


def test_the_same_seed_draws_the_same_masks():
    dropout, x = SharedDropout(0.3), torch.ones(7, 9)
    torch.manual_seed(3)
    first = dropout(x.clone())
    torch.manual_seed(3)

    assert torch.equal(dropout(x.clone()), first)


def test_recomputed_layers_draw_the_same_masks():
    backbone = adapted(dropout=0.5)
    torch.manual_seed(5)
    _, expected = logits_and_gradients(backbone)
    backbone.enable_gradient_checkpointing()
    torch.manual_seed(5)

    _, gradients = logits_and_gradients(backbone)

    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient)


def test_a_copy_after_a_pass_computes_the_same():
    backbone = adapted(dropout=0.5)
    backbone.lm(input_ids=IDS)

    twin = copy.deepcopy(backbone)

    assert torch.equal(twin.eval().lm(input_ids=IDS).logits, backbone.eval().lm(input_ids=IDS).logits)


def test_a_copy_uses_its_weights_and_not_those_of_the_original():
    backbone = adapted()
    twin = copy.deepcopy(backbone)
    for name, weight in backbone.named_parameters():
        if "lora_" in name:
            weight.data.zero_()

    assert not torch.equal(twin.lm(input_ids=IDS).logits, backbone.lm(input_ids=IDS).logits)


def test_disabled_and_merged_adapters_work_as_in_peft():
    backbone = adapted().eval()
    expected = backbone.lm(input_ids=IDS).logits

    with backbone.lm.disable_adapter():
        without = backbone.lm(input_ids=IDS).logits
    backbone.lm.merge_adapter()

    assert not torch.allclose(without, expected)
    torch.testing.assert_close(backbone.lm(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-4)
