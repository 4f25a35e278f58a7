"""A backbone with frozen linear weights in 8-bit or 4-bit precision (bitsandbytes), for LoRA on top.

Only weights are quantized; activations keep the run's number format. A score therefore depends neither on the other
rows of its batch nor on their layout, as without quantization. Embeddings and output head are not quantized.
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
    """Refuse a `load_in` that is not possible, before anything is loaded; None is always accepted.

    Raises:
        UserError: it is incompatible with the built-in backbone or with `tune`, or bitsandbytes is missing or does not
            run on the device.
    """
    if load_in is None:
        return
    given, without = f"load_in: {load_in}", "set load_in: ~"
    faults = []
    if builtin:
        faults.append(
            f"{given} quantizes frozen weights, but backbone: builtin trains all weights: {without}, or set backbone to"
            " a transformers name or folder"
        )
    elif tune == "all":
        faults.append(
            f"{given} quantizes frozen weights, but tune: all trains them: set tune: lora or auto, or {without}"
        )
    if find_spec("bitsandbytes") is None:
        faults.append(f'{given} needs the package bitsandbytes: pip install "recbole_llmtrsr[quantized]", or {without}')
    elif not faults and (reason := _device_fault(device)):
        faults.append(
            f"{given}: bitsandbytes does not run on device {device} ({reason}): run `python -m bitsandbytes` to see"
            f" what is missing, choose another device, or {without}"
        )
    if faults:
        raise UserError(faults)


def quantized_loading(load_in: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of transformers' `from_pretrained` that quantize weights while they are loaded.

    Args:
        load_in: 8bit, or 4bit (nf4 in blocks of 64 whose scales are quantized too: about 4.1 bits per weight).
        dtype: number format of the matrix products.
        device: device of the weights.
    """
    nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    is_8bit = load_in == "8bit"
    config = BitsAndBytesConfig(load_in_8bit=True) if is_8bit else BitsAndBytesConfig(load_in_4bit=True, **nf4)
    return {"quantization_config": config, "device_map": {"": device}}


def n_weights(parameter: nn.Parameter) -> int:
    """Number of weights of a parameter; bitsandbytes packs two 4-bit weights into a byte."""
    state: Any = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def keep_activations(lm: nn.Module) -> None:
    """Make quantized layers compute the same in training and evaluation, and each row independently of the others.

    Deviation: bitsandbytes also quantizes the activations of 8-bit layers, depending on the other rows of the batch,
    which changes a prompt's scores by hundredths of the largest logit. On CPUs with AVX512-BF16 it converts 4-bit
    weights at the first evaluation to a format without gradients, so that later training would have no effect.
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
    """x W^T with W = integers * (largest magnitude of each row / 127), which the backward pass recomputes."""

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
    """Why bitsandbytes cannot quantize on a device; a build for other drivers fails only at the first call."""
    try:
        functions = import_module("bitsandbytes.functional")
        packed, scales = functions.quantize_4bit(torch.ones(64, 64, device=device), quant_type="nf4")
        functions.dequantize_4bit(packed, scales).sum().item()  # .item() surfaces errors of a GPU
    except (
        Exception
    ) as error:  # import errors, missing libraries, unknown devices: the exception depends on the version
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None
