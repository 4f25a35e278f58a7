from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf

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
# For architectures that name their sizes otherwise.
COMMON = {
    key: SIZES[key] for key in ("vocab_size", "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id")
}
MAMBA2_LAYERS = {"num_hidden_layers": 4, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 4}
CONFIGS = {
    "llama": lambda: hf.LlamaConfig(**SIZES),
    "qwen2": lambda: hf.Qwen2Config(**SIZES),
    "qwen3": lambda: hf.Qwen3Config(head_dim=8, **SIZES),
    # Shorter than a prefix and than a row, so that the window cuts within the prefix and from candidates to it.
    "mistral": lambda: hf.MistralConfig(sliding_window=5, **SIZES),
    "gemma3": lambda: hf.Gemma3TextConfig(head_dim=8, sliding_window=5, **SIZES),
    # Caps that tiny scores and logits reach.
    "gemma2": lambda: hf.Gemma2Config(
        head_dim=8, sliding_window=5, attn_logit_softcapping=0.5, final_logit_softcapping=2.0, **SIZES
    ),
    "granite": lambda: hf.GraniteConfig(logits_scaling=3.0, **SIZES),
    "cohere": lambda: hf.CohereConfig(logit_scale=0.25, **SIZES),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SIZES_MHA),
    "phi": lambda: hf.PhiConfig(**SIZES),
    "gpt2": lambda: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=20, **COMMON),
    "opt": lambda: hf.OPTConfig(
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
    # Its head transforms hidden states before the output embeddings.
    "bert": lambda: hf.BertConfig(
        is_decoder=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES_MHA
    ),
    "bloom": lambda: hf.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **COMMON),
    "falcon": lambda: hf.FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **COMMON),
    "mpt": lambda: hf.MptConfig(d_model=32, n_layers=2, n_heads=4, max_seq_len=64, **COMMON),
    "gptj": lambda: hf.GPTJConfig(n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, **COMMON),
    "phi3": lambda: hf.Phi3Config(sliding_window=5, **SIZES),
    "cohere2": lambda: hf.Cohere2Config(sliding_window=5, logit_scale=0.25, **SIZES | {"num_hidden_layers": 4}),
    "olmoe": lambda: hf.OlmoeConfig(num_experts=4, num_experts_per_tok=2, **SIZES),
    "gpt_oss": lambda: hf.GptOssConfig(
        head_dim=8, sliding_window=5, num_local_experts=4, num_experts_per_tok=2, **SIZES
    ),
    "deepseek_v3": lambda: hf.DeepseekV3Config(
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=8,
        **SIZES | {"num_key_value_heads": 4},
    ),
    # Chunks end within prefixes and within candidates.
    "llama4": lambda: hf.Llama4TextConfig(
        head_dim=8,
        num_local_experts=4,
        intermediate_size_mlp=48,
        attention_chunk_size=5,
        layer_types=["chunked_attention", "full_attention"],
        no_rope_layers=[1, 0],
        **SIZES,
    ),
    "qwen3_next": lambda: hf.Qwen3NextConfig(
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        **SIZES,
    ),
    "lfm2": lambda: hf.Lfm2Config(layer_types=["conv", "full_attention"], block_multiple_of=8, **SIZES),
    "mamba2": lambda: hf.Mamba2Config(
        hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8, n_groups=2, chunk_size=4, **COMMON
    ),
    "falcon_h1": lambda: hf.FalconH1Config(
        head_dim=8, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, **SIZES | MAMBA2_LAYERS
    ),
    "bamba": lambda: hf.BambaConfig(
        attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_head=8, **SIZES | MAMBA2_LAYERS
    ),
    "rwkv": lambda: hf.RwkvConfig(
        hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, context_length=64, **COMMON
    ),
}


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(["a film of the year", "no film"], vocab_size=280)


@pytest.fixture
def tiny(tokenizer) -> Callable[..., Backbone]:
    """Builds a tiny random backbone of a named architecture, in eval mode; its config may be changed by name."""

    def build(architecture: str, **changes: Any) -> Backbone:
        torch.manual_seed(0)
        config = CONFIGS[architecture]()
        for name, value in changes.items():
            setattr(config, name, value)
        lm = hf.AutoModelForCausalLM.from_config(config)
        for name, parameter in lm.named_parameters():
            if name.endswith("bias"):  # zero at initialization, so a forgotten one would go unseen
                torch.nn.init.normal_(parameter, std=0.2)
        return Backbone(lm.eval(), tokenizer, architecture)

    return build


@pytest.fixture
def prompts() -> Callable[[list[int], list[list[int]]], tuple[list[list[int]], list[list[list[int]]]]]:
    """Random token ids of given lengths: prefixes, and candidates by history."""

    def drawn(prefixes: list[int], candidates: list[list[int]]) -> tuple[list[list[int]], list[list[list[int]]]]:
        generator = torch.Generator().manual_seed(1)

        def ids(length: int) -> list[int]:
            return torch.randint(10, 300, (length,), generator=generator).tolist()

        return [ids(n) for n in prefixes], [[ids(n) for n in own] for own in candidates]

    return drawn


@pytest.fixture
def ragged(prompts) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Four histories: one as long as a window, one without a prefix, one without candidates."""
    return prompts([13, 0, 4, 8], [[3, 5, 1], [4, 2], [], [7, 7]])
