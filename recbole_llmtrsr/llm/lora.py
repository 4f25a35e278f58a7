"""LoRA: trains low-rank updates of selected linear layers and freezes the base weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone

ALL_LINEAR = "all-linear"
# Names of the attention projections by architecture; the first row whose names all exist is used.
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
    """Wrap `backbone.lm` with peft, so that only the low-rank weights require gradients.

    Args:
        alpha: updates are scaled by alpha / rank.
        dropout: probability of dropping an input of the updates.
        target_modules: names of linear layers, as the last parts of their paths; None selects the attention
            projections, or all linear layers if their names are unknown; ["all-linear"] selects all.

    Returns:
        The names used.

    Raises:
        UserError: no linear layer has one of the names.
    """
    from peft import LoraConfig, get_peft_model

    from recbole_llmtrsr.llm.low_rank import lighten

    # The decoder does not include the output head.
    paths = [path for path, module in backbone.decoder.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    known_attention = (row for row in _ATTENTION_LAYERS if all(_matches(name, paths) for name in row))
    names = tuple(target_modules) if target_modules is not None else next(known_attention, (ALL_LINEAR,))
    unknown = [name for name in names if name != ALL_LINEAR and not _matches(name, paths)]
    if unknown or not names:
        known = sorted({path.rsplit(".", 1)[-1] for path in paths})
        raise UserError(
            f"lora_target_modules: {unknown or list(names)} are not linear layers of backbone {backbone.name!r}: "
            f"choose from {known}, or set lora_target_modules: ~ to select the attention projections"
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of names in transformers that peft still uses
        backbone.lm = get_peft_model(backbone.transformer, config)  # type: ignore[arg-type]
    lighten(backbone.lm)
    return names


def _matches(name: str, paths: Sequence[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for path in paths)
