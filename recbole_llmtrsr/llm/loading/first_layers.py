"""The first layers of a decoder: its configuration for fewer layers, and the weights that are then left out."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

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


def check_cut(whole: PretrainedConfig, cut: PretrainedConfig, source: str, *, trust_remote_code: bool = False) -> None:
    """Refuse a model of which the first layers differ from a model of so few layers; reads no weights.

    Args:
        whole: configuration of all layers.
        cut: the same, changed by ``cut_config``.
        source: the option and the name of the model, for messages.
        trust_remote_code: run the model code that comes with the weights.

    Raises:
        UserError: no layer is left out, or a remaining one would compute something else, such as by a scale that
            depends on the number of layers.
    """
    if cut.get_text_config().num_hidden_layers == whole.get_text_config().num_hidden_layers:
        return
    try:
        before = _described(_without_weights(whole, trust_remote_code))
    except Exception:  # loading reports it
        return
    try:
        after = _described(_without_weights(cut, trust_remote_code))
    except Exception as error:  # of many kinds, where a configuration refers to its last layers
        fault = (str(error).strip() or type(error).__name__).splitlines()[0]
    else:
        differing = [name for name in after if after[name] != before.get(name)]
        if not differing and len(after) < len(before):
            return
        fault = f"'{differing[0]}' depends on the number of layers" if differing else "all of its layers remain"
    raise UserError(
        f"backbone_layers: {cut.get_text_config().num_hidden_layers} cannot keep the first layers of {source} as they"
        f" are ({fault}): set backbone_layers: ~, or choose another model"
    )


def _without_weights(config: PretrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)  # type: ignore[no-any-return]


def _described(model: PreTrainedModel) -> dict[str, object]:
    """Shapes of all weights, and the numbers that the modules of the layers hold, by name."""
    found: dict[str, object] = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    for path, module in model.named_modules():
        if _LAYER.search(f"{path}."):
            numbers = {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float)}
            found.update({f"{path}.{name}": value for name, value in numbers.items() if name != "training"})
    return found


def of_further_layers(keys: Iterable[str], config: PretrainedConfig) -> set[str]:
    """Names of weights in layers behind those of a configuration.

    >>> from transformers import LlamaConfig
    >>> of_further_layers(["model.layers.1.mlp.up_proj.weight", "lm_head.weight"], LlamaConfig(num_hidden_layers=1))
    {'model.layers.1.mlp.up_proj.weight'}
    """
    n_layers = config.get_text_config().num_hidden_layers
    return {key for key in keys if (layer := _LAYER.search(key)) and int(layer[1]) >= n_layers}
