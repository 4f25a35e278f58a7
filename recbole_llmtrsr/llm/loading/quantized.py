"""A backbone whose frozen linear weights are kept in 8 or 4 bits by bitsandbytes, for LoRA on top.

Weights alone are rounded; activations stay in the run's number format. So a score depends on neither batch mates nor
the layout of rows, as with weights that are not quantized. Embeddings and output head are not quantized.
"""

from __future__ import annotations

import math
from importlib import import_module
from importlib.util import find_spec
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from recbole_llmtrsr.errors import UserError


def check_load_in(load_in: str | None, *, builtin: bool, tune: str, device: torch.device) -> None:
    """Refuse a `load_in` that cannot work, before anything is loaded.

    Args:
        load_in: the option; None is always fine.
        builtin: whether the backbone is the embedded one.
        tune: the option.
        device: where the backbone is to run.

    Raises:
        UserError: it does not go with the backbone or with what is tuned, or bitsandbytes is missing or
            does not run on the device.
    """
    if load_in is None:
        return
    given, without = f"load_in: {load_in}", "set load_in: ~"
    faults = []
    if builtin:
        faults.append(
            f"{given} rounds weights that stay frozen, but backbone: builtin trains all of its own: {without}, or give"
            " a transformers name or folder as backbone"
        )
    elif tune == "all":
        faults.append(
            f"{given} rounds weights that stay frozen, but tune: all trains them: set tune: lora or auto, or {without}"
        )
    if find_spec("bitsandbytes") is None:
        faults.append(f'{given} needs the package bitsandbytes: pip install "recbole_llmtrsr[quantized]", or {without}')
    elif not faults and (reason := _device_fault(device)):
        faults.append(
            f"{given}: bitsandbytes does not run on device {device} ({reason}): run `python -m bitsandbytes` to see"
            f" what it lacks, choose another device, or {without}"
        )
    if faults:
        raise UserError(faults)


def quantized_loading(load_in: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What transformers' `from_pretrained` is given on top, so that weights are rounded as they are read.

    Args:
        load_in: 8bit, or 4bit (nf4 in blocks of 64 whose scales are quantized too: about 4.1 bits per weight).
        dtype: in which rounded weights meet activations.
        device: where the weights are put as they are read.
    """
    if load_in == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config, "device_map": {"": device}}


def n_weights(parameter: nn.Parameter) -> int:
    """Weights of a parameter; bitsandbytes packs two 4-bit ones into a byte."""
    state: Any = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def keep_activations(lm: nn.Module) -> None:
    """Make the layers that bitsandbytes quantized compute alike in training and evaluation, and row by row.

    Deviation:
        bitsandbytes rounds the activations of 8-bit layers as well, differently with other rows in the batch: scores
        of one prompt then differ by hundredths of the largest logit. On CPUs with AVX512-BF16 it also rewrites 4-bit
        weights at the first evaluation, for an operation without gradients: training after it would learn nothing.
    """
    if getattr(lm.config, "quantization_config", None) is None or find_spec("bitsandbytes") is None:
        return
    layers = import_module("bitsandbytes.nn")
    module: Any
    for module in lm.modules():
        if isinstance(module, layers.Linear8bitLt):
            module.forward = MethodType(_forward_8bit, module)
        elif isinstance(module, layers.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _forward_8bit(layer: Any, x: Tensor) -> Tensor:
    y: Tensor = _Linear8bit.apply(x, layer.weight.data, layer.weight.SCB)  # type: ignore[no-untyped-call]
    return y if layer.bias is None else y + layer.bias.to(y.dtype)


class _Linear8bit(torch.autograd.Function):
    """x W^T with W = integers * (largest magnitude of each row / 127); W is made anew for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, integers: Tensor, largest: Tensor) -> Tensor:
        ctx.save_for_backward(integers, largest)
        return F.linear(x, _restored(integers, largest, x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        integers, largest = ctx.saved_tensors
        return gradient @ _restored(integers, largest, gradient.dtype), None, None


def _restored(integers: Tensor, largest: Tensor, dtype: torch.dtype) -> Tensor:
    return integers.to(dtype).mul_(largest[:, None] / 127)


def _device_fault(device: torch.device) -> str | None:
    """Why bitsandbytes cannot quantize there; a build for other drivers shows itself at the first call only."""
    try:
        functions = import_module("bitsandbytes.functional")
        packed, scales = functions.quantize_4bit(torch.ones(64, 64, device=device), quant_type="nf4")
        functions.dequantize_4bit(packed, scales).sum().item()  # errors of a GPU come with the first value asked of it
    except Exception as error:  # import errors, missing libraries, unknown devices: each version has its own
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None
