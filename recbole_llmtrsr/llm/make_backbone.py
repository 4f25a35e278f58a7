"""Makes the backbone that the options select, and chooses its trainable weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from logging import getLogger
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.llm.backbone import Backbone, load_backbone
from recbole_llmtrsr.llm.builtin import BUILTIN, build_builtin
from recbole_llmtrsr.llm.loading.quantized import check_load_in
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.llm.lora import apply_lora
from recbole_llmtrsr.llm.number_format import tunes_lora, weights_dtype


def make_backbone(
    settings: Settings,
    texts: Callable[[], Iterable[str]],
    device: torch.device,
    seed: int,
    required_tokens: Sequence[str] = (),
) -> Backbone:
    """Load the backbone, or build the built-in one; ``choose_weights`` then selects the weights to train.

    Args:
        settings: all options of the package.
        texts: returns the texts on which the built-in tokenizer is trained.
        device: device of quantized weights; others are loaded to the CPU.
        seed: seed of the built-in backbone's weights.
        required_tokens: texts that must be one token each in the built-in tokenizer.
    """
    options = settings.backbone
    check_load_in(options.load_in, builtin=options.backbone == BUILTIN, tune=options.tune, device=device)
    if options.backbone != BUILTIN:
        return load_backbone(
            options.backbone,
            dtype=weights_dtype(options, device),
            trust_remote_code=options.trust_remote_code,
            load_in=options.load_in,
            device=device,
            n_layers=options.backbone_layers,
        )
    saved = None if options.builtin_tokenizer is None else Path(options.builtin_tokenizer).expanduser()
    backbone = build_builtin(
        texts() if saved is None else (),
        hidden_size=options.builtin_hidden_size,
        n_layers=options.builtin_n_layers,
        n_heads=options.builtin_n_heads,
        vocab_size=options.builtin_vocab_size,
        max_positions=settings.prompt.max_prompt_tokens + 1,
        seed=seed,
        required_tokens=required_tokens,
        tokenizer_file=saved,
    )
    getLogger().info(
        f"backbone: builtin, {sum(p.numel() for p in backbone.lm.parameters()):,} weights trained from scratch on"
        " this data set, without pretraining (set backbone to a transformers name or folder for a pretrained model)"
    )
    return backbone


def choose_weights(backbone: Backbone, settings: Settings) -> None:
    """Make the weights trainable that ``tune`` selects: those of LoRA, or all."""
    options = settings.backbone
    if tunes_lora(options):
        apply_lora(backbone, options.lora_rank, options.lora_alpha, options.lora_dropout, options.lora_target_modules)
    else:
        backbone.lm.float().requires_grad_(True)  # type: ignore[operator]


def check_backbone(settings: Settings, device: torch.device) -> tuple[PretrainedConfig, PreTrainedTokenizerBase] | None:
    """Refuse a backbone that cannot be loaded, before summaries are written; see ``ModelSource.check_names``.

    Returns:
        Its config and tokenizer; None for the built-in backbone, which is built later.

    Raises:
        UserError: the backbone or its tokenizer is missing, its weights have another architecture, or ``load_in`` is
            not possible.
    """
    options = settings.backbone
    check_load_in(options.load_in, builtin=options.backbone == BUILTIN, tune=options.tune, device=device)
    if options.backbone == BUILTIN:
        return None
    source = ModelSource.find("backbone", options.backbone, options.trust_remote_code, options.backbone_layers)
    config, tokenizer = source.load_tokenizer()
    source.check_names(config, weights_dtype(options, device))
    return config, tokenizer
