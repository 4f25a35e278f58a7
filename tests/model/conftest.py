from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.builtin import train_tokenizer

# Weights far larger than usual: with the usual ones a wrong mask would hardly move a score.
SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SIZES_MHA = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(head_dim=8, **SIZES),
    # Shorter than a prefix and than a row, so that the window cuts within the prefix and from candidates to it.
    "mistral": lambda: MistralConfig(sliding_window=5, **SIZES),
    "gemma3": lambda: Gemma3TextConfig(head_dim=8, sliding_window=5, **SIZES),
    "gemma2": lambda: Gemma2Config(head_dim=8, sliding_window=5, final_logit_softcapping=2.0, **SIZES),
    "granite": lambda: GraniteConfig(logits_scaling=3.0, **SIZES),
    "cohere": lambda: CohereConfig(logit_scale=0.25, **SIZES),
    "gpt_neox": lambda: GPTNeoXConfig(**SIZES_MHA),
    "phi": lambda: PhiConfig(**SIZES),
    "gpt2": lambda: GPT2Config(
        vocab_size=300,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=20,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "opt": lambda: OPTConfig(
        vocab_size=300,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=20,
        word_embed_proj_dim=16,
        init_std=0.2,
        dropout=0.0,
    ),
}


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(["a film of the year", "no film"], vocab_size=280)


@pytest.fixture
def tiny(tokenizer) -> Callable[[str], Backbone]:
    """Builds a tiny random backbone of a named architecture, in eval mode."""

    def build(architecture: str) -> Backbone:
        torch.manual_seed(0)
        lm = AutoModelForCausalLM.from_config(CONFIGS[architecture]())
        for name, parameter in lm.named_parameters():
            if name.endswith("bias"):  # zero at initialization, so a forgotten one would go unseen
                torch.nn.init.normal_(parameter, std=0.2)
        return Backbone(lm.eval(), tokenizer, architecture)

    return build
