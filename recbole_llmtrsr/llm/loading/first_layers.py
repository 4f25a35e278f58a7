"""The first layers of a decoder: its configuration for fewer layers, and the weights that are then left out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from transformers import PretrainedConfig

from recbole_llmtrsr.errors import UserError

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")  # the first number in a weight's name is that of its layer
# Lists whose length may equal the number of layers by chance.
_NOT_OF_LAYERS = re.compile(r"(architectures|token_ids?|keys_to_ignore_at_inference|_sections?)$")


def cut_config(config: PretrainedConfig, n_layers: int | None, source: str) -> None:
    """Make a configuration describe the first layers only, and its lists of one value per layer with it.

    Args:
        config: changed in place.
        n_layers: number of layers; None changes nothing.
        source: the option and the name of the model, for messages.

    Raises:
        UserError: the model has fewer layers, or its configuration does not state their number.
    """
    if n_layers is None:
        return
    text = config.get_text_config()
    n_all = getattr(text, "num_hidden_layers", None)
    if not isinstance(n_all, int):
        raise UserError(
            f"backbone_layers: {n_layers} needs the number of layers, which the config of {source} does not state"
            " (num_hidden_layers): set backbone_layers: ~"
        )
    if n_layers > n_all:
        raise UserError(
            f"backbone_layers: {n_layers} exceeds the number of layers of {source} ({n_all}): set it to {n_all} or"
            " less, or to ~ for all"
        )
    for name, value in list(vars(text).items()):
        if isinstance(value, list | tuple) and len(value) == n_all and not _NOT_OF_LAYERS.search(name):
            setattr(text, name, value[:n_layers])
    text.num_hidden_layers = n_layers


def of_further_layers(keys: Iterable[str], config: PretrainedConfig) -> set[str]:
    """Names of weights in layers behind those of a configuration.

    >>> from transformers import LlamaConfig
    >>> of_further_layers(["model.layers.1.mlp.up_proj.weight", "lm_head.weight"], LlamaConfig(num_hidden_layers=1))
    {'model.layers.1.mlp.up_proj.weight'}
    """
    n_layers = config.get_text_config().num_hidden_layers
    return {key for key in keys if (layer := _LAYER.search(key)) and int(layer[1]) >= n_layers}
