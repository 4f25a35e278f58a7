from __future__ import annotations

import pytest
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    Phi3Config,
)

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.lora import apply_lora

SIZES = {
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "phi3": Phi3Config(**SIZES),
    "gpt_neox": GPTNeoXConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=260, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2),
    "opt": OPTConfig(
        vocab_size=260, hidden_size=16, ffn_dim=24, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=16
    ),
    "bloom": BloomConfig(vocab_size=260, hidden_size=16, n_layer=1, n_head=2),
}


def tiny(architecture):
    return Backbone(AutoModelForCausalLM.from_config(CONFIGS[architecture]), train_tokenizer(["a"]), architecture)


def adapted_layers(backbone):
    return sorted({n.split(".lora_A")[0].rsplit(".", 2)[-1] for n, _ in backbone.named_parameters() if "lora_A" in n})


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("llama", ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("opt", ("q_proj", "k_proj", "v_proj", "out_proj")),
        ("phi3", ("qkv_proj", "o_proj")),
        ("gpt2", ("attn.c_attn", "attn.c_proj")),
        ("gpt_neox", ("query_key_value",)),
        ("bloom", ("query_key_value",)),
    ],
)
def test_the_attention_projections_are_found(architecture, names):
    backbone = tiny(architecture)

    assert apply_lora(backbone, rank=2, alpha=4, dropout=0.1) == names

    assert adapted_layers(backbone) == sorted(name.rsplit(".", 1)[-1] for name in names)


def test_only_the_low_rank_weights_are_trained():
    backbone = tiny("llama")

    apply_lora(backbone, rank=2, alpha=4, dropout=0.1)

    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert sum(p.numel() for p in trained.values()) == 4 * 2 * (16 * 2)  # four layers, A and B, rank 2, width 16


def test_chosen_layers_are_the_ones_adapted():
    backbone = tiny("llama")

    assert apply_lora(backbone, 2, 4, 0.0, ["v_proj", "mlp.up_proj"]) == ("v_proj", "mlp.up_proj")

    assert adapted_layers(backbone) == ["up_proj", "v_proj"]


def test_all_linear_adapts_every_linear_layer_but_the_head():
    backbone = tiny("gpt_neox")

    apply_lora(backbone, 2, 4, 0.0, ["all-linear"])

    assert adapted_layers(backbone) == ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"]


def test_an_unknown_layer_is_an_error_that_lists_the_known_ones_and_they_work():
    backbone = tiny("gpt_neox")

    with pytest.raises(UserError) as error:
        apply_lora(backbone, 2, 4, 0.0, ["q_proj", "dense"])

    assert str(error.value) == (
        "lora_target_modules: ['q_proj'] are not linear layers of backbone 'gpt_neox': choose from "
        "['dense', 'dense_4h_to_h', 'dense_h_to_4h', 'query_key_value'], or set lora_target_modules: ~ to select the "
        "attention projections"
    )
    assert apply_lora(backbone, 2, 4, 0.0, ["dense"]) == ("dense",)
