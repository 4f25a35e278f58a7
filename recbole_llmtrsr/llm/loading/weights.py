"""Checks that no loaded weights are missing or unexpected, and that all are finite."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from typing import Any

import torch
from transformers import PreTrainedModel

from recbole_llmtrsr.llm.loading.first_layers import of_further_layers

_WRAPPERS = frozenset(("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))
_HOLDERS = frozenset(
    ("", "base_model", "model", "lm", "llm", "language_model")
)  # usual names of an attribute that holds a model
# Keys of buffers that old releases of transformers saved and that models now compute.
_BUFFERS = re.compile(
    r"(masked_bias|attn\.bias|attention\.bias|inv_freq|(cos|sin)_cached|position_ids|token_type_ids|\.version)$"
)
_NUMBERS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)  # bitsandbytes packs weights into other types


def weights_fault(
    model: PreTrainedModel, loading: Mapping[str, Any], *, saved_quantized: bool = False, is_cut: bool = False
) -> str | None:
    """Describe a problem of loaded weights with its remedy; None for valid weights.

    transformers initializes missing weights randomly and drops unexpected ones. Missing weights are an error, except in
    a pooler, which is not used. Unexpected weights are an error inside a layer, but not in heads and towers of other
    tasks.

    Args:
        model: from `from_pretrained`.
        loading: its result for `output_loading_info`.
        saved_quantized: whether the file may hold scales beside weights, which transformers does not always read.
        is_cut: whether the model has only the first layers of the file.
    """
    missing = {key for key in loading["missing_keys"] if "pooler" not in key.split(".")}
    unexpected = set(loading["unexpected_keys"])
    if is_cut:
        unexpected -= of_further_layers(unexpected, model.config)
    lost = {key for key in unexpected if _is_in_a_layer(key, model) and not _is_for_others(key, model)}
    if missing:
        found = f"{_counted(missing, f'of its {len(model.state_dict())} weights')} not in the file"
        others = f", and {_counted(unexpected, 'of the file')} not in the model" if unexpected else ""
        return f"{found}{others}: {_remedy(model, missing, unexpected)}"
    if lost and not saved_quantized:
        found = f"{_counted(lost, 'weights of the file')} not in the model that config.json describes"
        return f"{found}: {_remedy(model, missing, lost)}"
    return _number_fault(model)


def _counted(keys: Set[str], of: str) -> str:
    return f"{len(keys)} {of} ('{min(keys)}') {'is' if len(keys) == 1 else 'are'}"


def _remedy(model: PreTrainedModel, missing: Set[str], unexpected: Set[str]) -> str:
    if any(".lora_" in key or ".base_layer." in key for key in unexpected):
        return "merge the adapter into the weights (`merge_and_unload` of peft), and save the model again"
    wrapper = _wrapper(model, missing, unexpected)
    if wrapper:
        return (
            f"strip the prefix '{wrapper}' from the keys of the file, or save the model without its wrapper with"
            " `save_pretrained`"
        )
    if missing and missing <= set(_head(model)) and not unexpected:
        return (
            "set `tie_word_embeddings: true` in its config.json if its head shares the embedding's weights, or"
            " save it again with its head"
        )
    if not missing:
        return "add the config.json that belongs to the weights, or save the model again with `save_pretrained`"
    return "save the complete model with its config.json again (`save_pretrained`), or download it again"


def _wrapper(model: PreTrainedModel, missing: Set[str], unexpected: Set[str]) -> str:
    """The prefix or infix that a wrapper added to the names of weights, such as '_orig_mod.'; '' if there is none."""
    body = (
        f"{model.base_model_prefix}." if model.base_model is model else ""
    )  # prefix of names in a file of the whole model
    for key in sorted(unexpected)[:20]:
        # 'model.norm.weight' may be missing beside 'norm.weight': the longest name leaves only the prefix.
        name = max((name for name in missing if key.endswith(f".{name}")), key=len, default="")
        prefix = key.removesuffix(name).removesuffix(body)
        if name and set(prefix.split(".")) <= _WRAPPERS | _HOLDERS:
            return prefix
        inside = [part for part in key.split(".") if part in _WRAPPERS]
        bare = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        if inside and bare.removeprefix(body) in missing:
            return f"{inside[0]}."
    return ""


def _head(model: PreTrainedModel) -> list[str]:
    head = model.get_output_embeddings()
    return [name for name, _ in model.named_parameters() if head is not None and _module(name, model) is head]


def _is_in_a_layer(key: str, model: PreTrainedModel) -> bool:
    """Whether a weight's name leads into a layer of the model, deeper than its body."""
    name = key.removeprefix(f"{model.base_model_prefix}.") if model.base_model is model else key
    module = _module(name, model)
    return module is not model and module is not model.base_model


def _is_for_others(key: str, model: PreTrainedModel) -> bool:
    """Whether a key is a buffer, or a weight of an additional last layer for multi-token prediction."""
    config, layer = model.config.get_text_config(), re.search(r"\blayers\.(\d+)\.", key)
    n_ahead = getattr(config, "num_nextn_predict_layers", None) or 0
    is_ahead = layer and 0 <= int(layer[1]) - config.num_hidden_layers < n_ahead
    return bool(is_ahead or _BUFFERS.search(key))


def _module(key: str, model: torch.nn.Module) -> torch.nn.Module:
    """The deepest module on the path to a weight."""
    for name in key.split(".")[:-1]:
        child = model._modules.get(name)
        if child is None:
            break
        model = child
    return model


def _number_fault(model: PreTrainedModel) -> str | None:
    """Describe weights that are not finite, or an embedding or output head of zeros."""
    ends = {
        id(part.weight) for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part is not None
    }
    for name, weight in model.named_parameters():
        if weight.dtype not in _NUMBERS or weight.is_meta or not weight.numel():
            continue
        low, high = (float(end) for end in torch.aminmax(weight.detach()))
        fault = "" if math.isfinite(low) and math.isfinite(high) else "holds values that are not finite"
        if low == high == 0 and id(weight) in ends:
            fault = "is all zeros"
        if fault:
            return f"its weight '{name}' {fault}: download the model again, or save it again from a valid checkpoint"
    return None
