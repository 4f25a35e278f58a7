"""LoRA on a backbone: the base is frozen, low-rank updates of chosen linear layers are trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone

ALL_LINEAR = "all-linear"
# Attention projections as architectures name them; the first row of which all required names exist is taken.
# Source: the authors take q/k/v/o for Llama and query_key_value for Pythia.
_ATTENTION_LAYERS: tuple[tuple[str, ...], ...] = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q_proj", "k_proj", "v_proj", "dense"),
    ("qkv_proj", "o_proj"),
    ("attn.c_attn", "attn.c_proj"),
    ("query_key_value",),
)


def apply_lora(
    backbone: Backbone, rank: int, alpha: int, dropout: float, target_modules: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Wrap `backbone.lm` with peft; only the low-rank weights still require gradients.

    Args:
        rank: of the updates.
        alpha: the updates are scaled by alpha / rank.
        dropout: probability of dropping an input of the updates.
        target_modules: names of linear layers, as the last part of their path or more of it; None takes the
            attention projections, or every linear layer where those have unknown names; ["all-linear"] every one.

    Returns:
        The names used.

    Raises:
        UserError: a name that no linear layer has.
    """
    from peft import LoraConfig, get_peft_model

    paths = linear_layers(backbone)
    names = tuple(target_modules) if target_modules is not None else _attention_layers(paths)
    unknown = [name for name in names if name != ALL_LINEAR and not _matches(name, paths)]
    if unknown or not names:
        known = sorted({path.rsplit(".", 1)[-1] for path in paths})
        raise UserError(
            f"lora target modules {unknown or list(names)} are no linear layers of backbone {backbone.name!r}: "
            f"choose from {known}, or leave it empty for a sensible choice"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=ALL_LINEAR if ALL_LINEAR in names else list(names),
        bias="none",
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in backbone.transformer.modules()),
        task_type="CAUSAL_LM",
    )
    backbone.lm = get_peft_model(backbone.transformer, config)  # type: ignore[arg-type]
    return names


def linear_layers(backbone: Backbone) -> list[str]:
    """Paths of the linear layers inside the decoder; the output head is not one of them."""
    decoder = backbone.decoder
    return [path for path, module in decoder.named_modules() if isinstance(module, (nn.Linear, Conv1D))]


def _attention_layers(paths: Sequence[str]) -> tuple[str, ...]:
    for names in _ATTENTION_LAYERS:
        if all(_matches(name, paths) for name in names):
            return names
    return (ALL_LINEAR,)


def _matches(name: str, paths: Sequence[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for path in paths)
