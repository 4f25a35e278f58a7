"""Backbones of given shapes with random weights, which have the speed of trained ones."""

from __future__ import annotations

import copy
import re

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from recbole_llmtrsr.llm.backbone import Backbone

# Hidden and intermediate size, layers, heads, key heads, vocabulary, tied embeddings.
QWEN = {
    "qwen2.5-0.5b": (896, 4864, 24, 14, 2, 151936, True),
    "qwen2.5-1.5b": (1536, 8960, 28, 12, 2, 151936, True),
    "qwen2.5-7b": (3584, 18944, 28, 28, 4, 152064, False),
}


def random_backbone(shape: str, builtin: Backbone, device: str, dtype: torch.dtype) -> Backbone:
    """Create a Qwen2-type model with the builtin tokenizer.

    Args:
        shape: 'builtin', '<hidden>x<layers>' or a name in `QWEN`.
        builtin: the embedded backbone for the data set.
        device: device that creates the weights, since creating and then moving large weights takes minutes.
        dtype: data type of the weights. Rotary position tables stay float32, as in a loaded model.
    """
    config = copy.deepcopy(builtin.transformer.config) if shape == "builtin" else _config(shape, builtin)
    # With the usual smaller initial weights, half precision would hide the differences between candidates.
    config.initializer_range = config.hidden_size**-0.5
    with torch.device(device):
        lm = Qwen2ForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa")
    return Backbone(lm.eval(), builtin.tokenizer, shape)


def _config(shape: str, builtin: Backbone) -> Qwen2Config:
    if shape in QWEN:
        hidden, intermediate, layers, heads, key_heads, vocabulary, tied = QWEN[shape]
    elif match := re.fullmatch(r"(\d+)x(\d+)", shape):
        hidden, layers = int(match[1]), int(match[2])
        intermediate, heads, vocabulary, tied = 3 * hidden, max(1, hidden // 64), len(builtin.tokenizer), True
        key_heads = heads
    else:
        raise SystemExit(f"--shape must be builtin, <hidden>x<layers> or one of {', '.join(QWEN)}, got {shape!r}")
    return Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads, max_position_embeddings=4096,
        tie_word_embeddings=tied, pad_token_id=builtin.pad_id, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
