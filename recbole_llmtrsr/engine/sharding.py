"""Sharding of frozen weights among processes with FSDP2, for backbones that exceed the memory of one device.

A decoder layer is gathered when it is read, in the forward and in the backward pass, and divided again. Trained weights
(LoRA's) stay whole in every process, with their gradients, optimizer and checkpoints: they are the small part. Scores
and gradients are what whole weights give.

A process that gathers waits for the others, so all must make equally many passes. In training they know how many the
others have; where they do not, `Backbone.in_step` lets those that are done make idle ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Any

import torch
from accelerate.utils import is_torch_version
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recbole_llmtrsr.config.options import BackboneSettings
from recbole_llmtrsr.engine.rows import GroupedPrompts, plain_rows
from recbole_llmtrsr.engine.scoring import plain_states
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.make_backbone import tunes_lora
from recbole_llmtrsr.runtime import processes


def check_can_divide(settings: BackboneSettings) -> None:
    """Refuse options with which FSDP cannot shard any weights, before summaries are written.

    Raises:
        UserError: no frozen weights, quantized ones, or a torch that cannot leave trained weights whole.
    """
    if not processes.divides_weights():
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
    """Shards every decoder layer's frozen weights among all processes, which must create it together."""

    def __init__(self, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh  # here, because it takes its time

        self._mesh = init_device_mesh(device.type, (processes.count(),))

    def divide(self, backbone: Backbone) -> None:
        """Divide a whole backbone with its trainable weights chosen, and put the pieces on the device.

        Raises:
            UserError: its layers are not named, or share weights.
        """
        from torch.distributed.fsdp import fully_shard

        layers = _layers(backbone)
        weights = (weight for layer in layers for weight in layer.parameters() if not weight.requires_grad)
        frozen = {weight for weight in weights if weight.dim() > 0 and weight.is_floating_point()}
        whole, kept = _size(frozen), set(backbone.parameters()) - frozen
        del frozen  # each layer's whole weights go as soon as it is divided
        for layer in layers:
            fully_shard(layer, mesh=self._mesh, ignored_params=kept)
        # Around them all, without weights of its own: layers share streams and gather ahead of their turn.
        fully_shard(backbone.decoder, mesh=self._mesh, ignored_params=kept)

        def idle_pass() -> None:
            with torch.no_grad():
                plain_states(backbone, plain_rows(GroupedPrompts([[0]], [[[0]]]), backbone.pad_id))

        in_step = _InStep(idle_pass)
        backbone.decoder.register_forward_pre_hook(in_step.before_pass)
        backbone.in_step = in_step.passes
        backbone.is_divided = True
        own = _size([weight.to_local() for weight in _divided(backbone).values()])
        getLogger().info(
            f"backbone: {whole / 2**20:,.1f} MiB of frozen weights in {len(layers)} layers are divided among"
            f" {processes.count()} processes, {own / 2**20:,.1f} MiB in each"
        )


def hide_sharded_weights(model: nn.Module) -> None:
    """Make DistributedDataParallel ignore sharded weights, which have no gradients."""
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        model, list(_divided(model))
    )


def _layers(backbone: Backbone) -> list[nn.Module]:
    """The blocks of the decoder, without embeddings, as transformers names them for those who divide models."""
    names = set(backbone.transformer._no_split_modules or ())
    layers: list[nn.Module] = []
    within: set[nn.Module] = set()
    for module in backbone.decoder.modules():
        if type(module).__name__ not in names or module in within:
            continue
        if not any(isinstance(part, nn.Embedding) for part in module.modules()):
            layers.append(module)
            within |= set(module.modules())
    weights = [id(weight) for layer in layers for _, weight in layer.named_parameters(remove_duplicate=False)]
    if not layers:
        fault = "does not name the layers that FSDP would divide (_no_split_modules)"
    elif len(weights) > len(set(weights)):
        fault = "has weights that several of its layers share, which FSDP cannot divide"
    else:
        return layers
    raise UserError(f"backbone '{backbone.name}' {fault}: launch with --multi_gpu")


def _divided(model: nn.Module) -> dict[str, Any]:
    """Return the sharded weights, by name."""
    from torch.distributed.tensor import DTensor

    return {name: weight for name, weight in model.named_parameters() if isinstance(weight, DTensor)}


def _size(weights: Collection[torch.Tensor]) -> int:
    """Bytes."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


class _InStep:
    """Lets processes make different numbers of passes; a finished process makes idle passes until all have finished."""

    def __init__(self, idle_pass: Callable[[], None]) -> None:
        self._idle_pass, self._announces = idle_pass, False

    @contextmanager
    def passes(self) -> Iterator[None]:
        """Return a context for passes without gradients, which all processes enter and leave together."""
        self._announces = True
        try:
            yield
        finally:
            self._announces = False
        while any(processes.all_gather(False)):
            self._idle_pass()

    def before_pass(self, *_: object) -> None:
        """Tell the others that there is one more."""
        if self._announces:
            processes.all_gather(True)
