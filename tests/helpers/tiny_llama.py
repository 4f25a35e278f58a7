"""A random Llama of two layers that reads bytes, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def byte_level(**options: Any) -> PreTrainedTokenizerFast:
    """One token for each byte; token 0, <end>, ends a text, and no token pads."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={"<end>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<end>", **options)


def save_llama(folder: Path, max_positions: int, **options: Any) -> Path:
    """Save the model and its tokenizer, which is made with these options."""
    tokenizer = byte_level(**options)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=max_positions, bos_token_id=None, eos_token_id=0, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():  # large weights, so that answers depend on prompts
        torch.nn.init.normal_(parameter, std=0.6)
    model.save_pretrained(folder)
    return folder
