"""Merges adapters in a model folder, such as LoRA's, into its weights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from recbole_llmtrsr.llm.loading.fingerprint import WEIGHTS
from recbole_llmtrsr.llm.loading.first_layers import of_further_layers

_CONFIG = "adapter_config.json"


def has_adapter(path: str) -> bool:
    """Whether a path is a folder with an adapter; False for a name on the hub."""
    return os.path.isfile(os.path.join(path, _CONFIG))


def is_adapter_alone(path: str) -> bool:
    """Whether a folder holds an adapter without the model that it adapts."""
    names = [Path(name) for name in os.listdir(path)] if has_adapter(path) else []
    return bool(names) and not (
        Path("config.json") in names
        and any(name.suffix in WEIGHTS and not name.stem.startswith("adapter_") for name in names)
    )


def changes_whole_model(path: str) -> bool:
    """Whether a folder's adapter was trained on a causal language model with its head, rather than on its body."""
    return _settings(path).get("task_type") == "CAUSAL_LM"


def how_to_merge(path: str) -> str:
    """Instructions to merge an adapter with the model that its configuration names, and to save the result."""
    base = _settings(path).get("base_model_name_or_path")
    return (
        "export the run that trained it with `recbole-llmtrsr export --run=<folder> --merged=<folder>`, or merge it"
        f" with `PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base or 'its base'!r}),"
        f" {path!r}).merge_and_unload().save_pretrained('merged')` of peft and transformers, save the tokenizer there,"
        " too, and set the option to that folder"
    )


def _settings(path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path, _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def without_adapter(path: str) -> Iterator[str]:
    """Yield a view of a model folder without its adapter; a path without an adapter is yielded as it is.

    transformers would load the adapter as well, under the name that ``apply_lora`` uses, and report missing weights of
    the adapter instead of the model.
    """
    if not has_adapter(path):
        yield path
        return
    with TemporaryDirectory() as view:
        for name in os.listdir(path):
            if not name.startswith("adapter_"):
                os.symlink(os.path.abspath(os.path.join(path, name)), os.path.join(view, name))
        yield view


def merged_with_adapter(model: PreTrainedModel, path: str, *, is_cut: bool = False) -> PreTrainedModel:
    """Merge the adapter of a model's folder into its weights.

    Args:
        model: the model without its adapter.
        path: its folder.
        is_cut: whether the model has only the first of the layers that the adapter adapts.

    Raises:
        Exception: of many kinds, if the adapter does not fit the model or cannot be merged.
    """
    from peft import PeftConfig, PeftModel

    adapted: Any = PeftModel(model, PeftConfig.from_pretrained(path))
    loaded = adapted.load_adapter(path, "default")
    strangers = {*loaded.missing_keys, *loaded.unexpected_keys}
    if is_cut:
        strangers -= of_further_layers(strangers, model.config)
    if strangers:
        raise ValueError(f"{len(strangers)} of its weights do not fit the model ('{min(strangers)}')")
    merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    getLogger().info(
        f"{path}: the adapter in this folder is merged into the weights; an adapter trained in this run fits only the"
        " merged model"
    )
    merged.name_or_path = path
    return merged.requires_grad_(True)
