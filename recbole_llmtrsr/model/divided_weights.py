"""Frozen weights in pieces, one for each process, for a backbone that no single device holds: FSDP2 of torch.

A decoder layer is gathered when it is read, in the forward and in the backward pass, and divided again. Trained weights
(LoRA's) stay whole in every process, with their gradients, optimizer and checkpoints: they are the small part. Scores
and gradients are what whole weights give.

Whoever gathers waits for the others, so all processes must make equally many passes. In training they know how many the
others have; where they do not, `Backbone.in_step` lets those that are done make idle ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Any

import torch
from accelerate.utils import is_torch_version
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recbole_llmtrsr import processes
from recbole_llmtrsr.division import Division
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.make_backbone import tunes_lora
from recbole_llmtrsr.model.rows import plain_rows
from recbole_llmtrsr.model.scoring import plain_states
from recbole_llmtrsr.options import BackboneSettings


def check_can_divide(settings: BackboneSettings) -> None:
    """Refuse options under which there is nothing to divide, before summaries are written.

    Raises:
        UserError: no frozen weights, quantized ones, or a torch that cannot leave trained weights whole.
    """
    if processes.division() is None:
        return
    faults = []
    if not tunes_lora(settings):
        faults.append(
            f"tune: {settings.tune} freezes no weights of backbone '{settings.backbone}', and FSDP divides frozen ones:"
            " set tune: lora, or launch with --multi_gpu"
        )
    if settings.load_in is not None:
        faults.append(
            f"load_in: {settings.load_in} makes weights that FSDP cannot divide: leave it out, or launch with"
            " --multi_gpu"
        )
    if is_torch_version("<", "2.7"):
        faults.append(
            f"torch {torch.__version__} cannot leave trained weights whole under FSDP: install 2.7 or later, or launch"
            " with --multi_gpu"
        )
    if faults:
        raise UserError(faults)


class WeightDivider:
    """Leaves in this process its piece of every decoder layer's frozen weights.

    Args:
        how: they are divided.
        device: of this process; all processes make this object together.
    """

    def __init__(self, how: Division, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh  # here, because it takes its time

        self._how = how
        self._mesh = init_device_mesh(device.type, (processes.count(),))

    def divide(self, backbone: Backbone) -> None:
        """Divide a whole backbone with its trainable weights chosen, and put the pieces on the device.

        Raises:
            UserError: its layers cannot be told.
        """
        from torch.distributed.fsdp import fully_shard

        layers = _layers(backbone)
        whole = _size([weight for layer in layers for weight in _frozen(layer)])
        for layer in layers:
            trained = {weight for weight in layer.parameters() if weight.requires_grad}
            fully_shard(layer, mesh=self._mesh, reshard_after_forward=self._how.again, ignored_params=trained)
        in_step = _InStep(backbone)
        backbone.decoder.register_forward_pre_hook(in_step.before_pass)
        backbone.in_step = in_step.passes
        backbone.is_divided = True
        own = _size([weight.to_local() for weight in _divided(backbone).values()])
        getLogger().info(
            f"backbone: {whole / 2**20:,.1f} MiB of frozen weights in {len(layers)} layers are divided among"
            f" {processes.count()} processes, {own / 2**20:,.1f} MiB in each"
        )


def hide_divided_weights(model: nn.Module) -> None:
    """Let the wrapper that averages gradients leave divided weights alone: they have none.

    Args:
        model: what is going to be wrapped.
    """
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        model, list(_divided(model))
    )


def _layers(backbone: Backbone) -> list[nn.Module]:
    """The blocks of the decoder, which transformers names for those who divide models."""
    names = set(backbone.transformer._no_split_modules or ())
    layers = [module for module in backbone.decoder.modules() if type(module).__name__ in names]
    if not layers:
        raise UserError(
            f"backbone '{backbone.name}' does not name the layers that FSDP would divide (_no_split_modules): launch"
            " with --multi_gpu"
        )
    return layers


def _frozen(module: nn.Module) -> list[torch.Tensor]:
    return [weight for weight in module.parameters() if not weight.requires_grad]


def _divided(model: nn.Module) -> dict[str, Any]:
    """The weights that lie in pieces, by name."""
    from torch.distributed.tensor import DTensor

    return {name: weight for name, weight in model.named_parameters() if isinstance(weight, DTensor)}


def _size(weights: list[torch.Tensor]) -> int:
    """Bytes."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


class _InStep:
    """Lets processes make passes of their own number, as long as any has one to make.

    Args:
        backbone: whose weights are divided.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone, self._announces = backbone, False

    @contextmanager
    def passes(self) -> Iterator[None]:
        """A while of passes without gradients; all processes enter and leave it together."""
        self._announces = True
        try:
            yield
        finally:
            self._announces = False
        while any(processes.gathered(False)):
            with torch.no_grad():
                plain_states(self._backbone, plain_rows([[0]], [[[0]]], self._backbone.pad_id))

    def before_pass(self, *_: Any) -> None:
        """Tell the others that there is one more."""
        if self._announces:
            processes.gathered(True)
