"""GGUF files of random Llamas and Qwen2s with a byte-level tokenizer, and the same weights as a transformers folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from recbole_llmtrsr.llm.builtin import train_tokenizer

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
_CONTROL, _NORMAL = 3, 1
_ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}


def tokenizer() -> PreTrainedTokenizerFast:
    made = train_tokenizer(["The title of a film, 1995", "the year of the film"], 290, [" yes", " no", "yes", "no"])
    made.eos_token = made.pad_token
    made.chat_template = TEMPLATE
    return made


def write_gguf(
    file: Path,
    model: PreTrainedModel,
    *,
    pre: str = "gpt-2",
    q8: bool = False,
    more: Mapping[str, np.ndarray] | None = None,
    **metadata: Any,
) -> Path:
    """Write a model and ``tokenizer()`` as llama.cpp's converter does.

    Args:
        file: path of the file.
        model: a Llama or Qwen2; with ``q8``, its linear weights become what the file holds.
        pre: how the tokenizer splits texts.
        q8: quantize the linear weights to 8 bits.
        more: further tensors.
        metadata: entries that replace or extend those of the model; None leaves one out.
    """
    config, kind = model.config, model.config.model_type
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, kind)
    for key, value in _metadata(model, pre, metadata).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    names = gguf.get_tensor_name_map(_ARCHITECTURES[kind], config.num_hidden_layers)
    for name, weight in model.named_parameters():
        values = weight.detach().float().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        n_heads = heads.get(name.split(".")[-2]) if kind == "llama" else None  # llama.cpp rotates pairs of neighbours
        stored = values if n_heads is None else _neighbours(values, n_heads)
        packed = None
        if q8 and "proj" in name and values.ndim == 2:
            packed = gguf.quantize(stored, gguf.GGMLQuantizationType.Q8_0)
            stored = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
            weight.data = torch.from_numpy(stored if n_heads is None else _halves(stored, n_heads)).clone()
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(target, stored if packed is None else packed, raw_dtype=None if packed is None else _Q8)
    for name, values in (more or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


_Q8 = gguf.GGMLQuantizationType.Q8_0


def _metadata(model: PreTrainedModel, pre: str, changes: dict[str, Any]) -> dict[str, Any]:
    config, kind, made = model.config, model.config.model_type, tokenizer()
    parts = json.loads(made.backend_tokenizer.to_str())["model"]
    tokens = sorted(parts["vocab"], key=parts["vocab"].get)
    entries = {
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.feed_forward_length": config.intermediate_size,
        f"{kind}.attention.head_count": config.num_attention_heads,
        f"{kind}.attention.head_count_kv": config.num_key_value_heads,
        f"{kind}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        f"{kind}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "general.name": "tiny",
        "general.type": "model",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [_CONTROL if token == made.pad_token else _NORMAL for token in tokens],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in parts["merges"]],
        "tokenizer.ggml.eos_token_id": made.eos_token_id,
        "tokenizer.ggml.padding_token_id": made.pad_token_id,
        "tokenizer.chat_template": TEMPLATE,
    }
    return entries | {key.replace("__", "."): value for key, value in changes.items()}


def _neighbours(weights: np.ndarray, n_heads: int) -> np.ndarray:
    return weights.reshape(n_heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


def _halves(weights: np.ndarray, n_heads: int) -> np.ndarray:
    return weights.reshape(n_heads, -1, 2, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)
