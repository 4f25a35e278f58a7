"""Saves a backbone in folders that peft, transformers and the option ``backbone`` read."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

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
    backbone.transformer.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def merge_adapter(backbone: Backbone) -> None:
    """Merge the adapter, if there is one, into the weights, in their number format."""
    if isinstance(backbone.lm, PeftModel):
        backbone.transformer.set_attn_implementation(backbone.native_attention)
        backbone.lm = backbone.lm.merge_and_unload(safe_merge=True)
        backbone.attention = "plain"
