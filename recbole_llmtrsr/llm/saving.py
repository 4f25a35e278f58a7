"""Saves a backbone in folders that peft, transformers and the option ``backbone`` read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import GenerationConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.builtin import BUILTIN, save_builtin


def save_trained(backbone: Backbone, folder: Path) -> None:
    """Save what was trained, a peft adapter or the whole model, with the tokenizer.

    The adapter's configuration names the base as the user wrote it, because the path from which the weights were read
    may be that of a cache.

    Args:
        backbone: after `choose_weights`.
        folder: is made if it is missing.
    """
    if not isinstance(backbone.lm, PeftModel):
        save_whole(backbone, folder)
        return
    backbone.lm.peft_config["default"].base_model_name_or_path = backbone.name
    # Without the flag, peft looks for the base's vocabulary on the model hub.
    backbone.lm.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template of a model card, whose fields are empty
    backbone.tokenizer.save_pretrained(folder)


def save_whole(backbone: Backbone, folder: Path) -> None:
    """Save a model without adapters, with its tokenizer."""
    if backbone.name == BUILTIN:
        save_builtin(backbone, folder)
        return
    _save_model(backbone.transformer, folder)
    backbone.tokenizer.save_pretrained(folder)


def _save_model(lm: PreTrainedModel, folder: Path) -> None:
    """Save weights and configurations; a faulty one of generation, which transformers would refuse, as it was read."""
    generation = lm.generation_config
    if generation is None:
        lm.save_pretrained(folder)
        return
    lm.generation_config = GenerationConfig()
    try:
        lm.save_pretrained(folder)
    finally:
        lm.generation_config = generation
    generation.to_json_file(folder / "generation_config.json")


def merge_adapter(backbone: Backbone) -> None:
    """Merge the adapter, if there is one, into the weights, in their number format; quantized ones are restored first.

    Raises:
        UserError: the weights are quantized in a layout of which transformers cannot restore the original.
    """
    if not isinstance(backbone.lm, PeftModel):
        return
    backbone.transformer.set_attn_implementation(backbone.native_attention)
    is_quantized = getattr(backbone.transformer.config, "quantization_config", None) is not None
    backbone.lm = _merged_unquantized(backbone) if is_quantized else backbone.lm.merge_and_unload(safe_merge=True)
    backbone.attention = "plain"


def _merged_unquantized(backbone: Backbone) -> PreTrainedModel:
    """Restore quantized weights as numbers, and add the adapter's update; peft would round the sum again."""
    adapted: Any = backbone.lm
    with torch.device("meta"):
        original = type(backbone.transformer)(backbone.transformer.config)
    if any(isinstance(module, Conv1D) for module in original.modules()):  # linear layers, once they are quantized
        raise UserError(
            f"backbone '{backbone.name}' has transposed layers (Conv1D), which cannot be restored from quantized ones:"
            " export the adapter with --adapter=<folder>"
        )
    backbone.transformer.dequantize(dtype=backbone.transformer.dtype)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            weight = layer.get_base_layer().weight
            weight.data += layer.get_delta_weight("default").to(weight.dtype)
    merged: PreTrainedModel = adapted.unload()
    return merged
