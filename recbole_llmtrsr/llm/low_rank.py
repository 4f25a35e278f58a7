"""LoRA layers with fewer passes over memory than peft's, which bound the speed of small backbones on a CPU.

    y = W x + scaling * B A dropout(x)

peft draws a mask for each layer and writes the update, its multiple and the sum to memory one after another. Here one
product adds the scaled update to the output. On a CPU, layers that read the same input, such as those of queries, keys
and values, share one mask, which comes from a faster generator.
"""

from __future__ import annotations

from collections import defaultdict
from types import MethodType
from typing import Any
from weakref import ref

import numpy as np
import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

_LEVELS = 2**16  # of the random numbers behind a mask


class SharedDropout(nn.Dropout):
    """Dropout with the same mask for the same input tensor, so that layers share it; on a CPU only.

    The probability is rounded to a multiple of 2^-16.
    """

    _last: tuple[ref[Tensor], ref[Tensor], int] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x [...] in training and scale the others; return x itself in evaluation."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        is_known = self._last is not None and self._last[0]() is x
        dropped = self._last[1]() if self._last is not None and is_known else None
        if dropped is None:
            # Passes whose layers are recomputed keep no result, so that each layer draws the mask anew. The seed comes
            # from PyTorch's generator, so that the recomputation and resumed runs draw it, too.
            seed = self._last[2] if self._last is not None and is_known else int(torch.randint(2**62, ()))
            dropped = _dropped(x, self.p, seed)
            self._last = ref(x), ref(dropped), seed
        return dropped

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the last tensors, which cannot be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_last"}


def lighten(lm: nn.Module) -> None:
    """Let a model's LoRA layers share masks and add their updates in one product.

    Layers that peft computes otherwise, such as those over quantized weights, only share masks.

    Args:
        lm: a peft model; its layers are changed in place.
    """
    dropouts: dict[str, dict[str, SharedDropout]] = defaultdict(dict)  # by the name of the parent, and adapter
    for path, layer in lm.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        shared = dropouts[path.rpartition(".")[0]]
        for adapter, own in layer.lora_dropout.items():
            if isinstance(own, nn.Dropout):
                layer.lora_dropout[adapter] = shared.setdefault(adapter, SharedDropout(own.p))
        if type(layer) is Linear and not any(layer.use_dora.values()) and not any(layer.lora_bias.values()):
            layer.forward = MethodType(_forward, layer)


def _forward(layer: Linear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    (adapter,) = layer.active_adapters if len(layer.active_adapters) == 1 else (None,)
    if adapter not in layer.lora_A or layer.disable_adapters or layer.merged or args or kwargs:
        return Linear.forward(layer, x, *args, **kwargs)  # type: ignore[no-any-return]
    y: Tensor = layer.base_layer(x)
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    low = F.linear(layer.lora_dropout[adapter](x), down.to(x.dtype))
    # Out of place: a product into a view would copy all gradients of y once more.
    low, up = low.flatten(0, -2).to(y.dtype), up.to(y.dtype)
    return torch.addmm(y.flatten(0, -2), low, up.t(), alpha=layer.scaling[adapter]).view(y.shape)


def _dropped(x: Tensor, p: float, seed: int) -> Tensor:
    n, least = x.numel(), round(p * _LEVELS)
    bits = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-n // 4)).view(np.int16))[:n]
    kept = (bits >= least - _LEVELS // 2).view(x.shape).to(x.dtype)
    return x * kept.mul_(_LEVELS / (_LEVELS - least))
