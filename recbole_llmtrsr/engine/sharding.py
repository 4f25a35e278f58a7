"""Sharding of frozen weights among processes with FSDP2, for backbones that exceed the memory of one device.

Each decoder layer is gathered for its forward and backward pass and sharded again afterwards. The few trained weights
(those of LoRA) stay whole in every process, as do their gradients, optimizer states and checkpoints. Scores and
gradients equal those of whole weights.

Gathering a layer waits for all processes, so all must make the same number of passes. In training the number is fixed;
elsewhere, processes that have finished make idle passes within `Backbone.in_step`.
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
from recbole_llmtrsr.llm.number_format import tunes_lora
from recbole_llmtrsr.runtime import processes


def check_can_divide(settings: BackboneSettings) -> None:
    """Refuse options with which FSDP cannot shard any weights, before summaries are written.

    Raises:
        UserError: no weights are frozen, weights are quantized, or torch is too old.
    """
    if not processes.divides_weights():
        return
    faults = []
    if not tunes_lora(settings):
        faults.append(
            f"tune: {settings.tune} freezes no weights of backbone '{settings.backbone}', but FSDP shards frozen ones:"
            " set tune: lora, or launch with --multi_gpu"
        )
    if settings.load_in is not None:
        faults.append(
            f"load_in: {settings.load_in} quantizes weights, which FSDP cannot shard: leave it out, or launch with"
            " --multi_gpu"
        )
    if is_torch_version("<", "2.7"):
        faults.append(
            f"torch {torch.__version__} cannot exclude trained weights from FSDP: install torch 2.7 or later, or launch"
            " with --multi_gpu"
        )
    if faults:
        raise UserError(faults)


class WeightDivider:
    """Shards every decoder layer's frozen weights among all processes, which must create it together."""

    def __init__(self, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh  # imported here because it is slow

        self._mesh = init_device_mesh(device.type, (processes.count(),))

    def divide(self, backbone: Backbone) -> None:
        """Shard a backbone and move this process's part to the device; trainable weights must be selected before.

        Raises:
            UserError: the backbone does not name its layers, or they share weights.
        """
        from torch.distributed.fsdp import fully_shard

        layers = _layers(backbone)
        weights = (weight for layer in layers for weight in layer.parameters() if not weight.requires_grad)
        frozen = {weight for weight in weights if weight.dim() > 0 and weight.is_floating_point()}
        whole, kept = _size(frozen), set(backbone.parameters()) - frozen
        del frozen  # releases the whole weights of each layer once it is sharded
        for layer in layers:
            fully_shard(layer, mesh=self._mesh, ignored_params=kept)
        # The outer unit holds no weights; it lets layers share streams and prefetch.
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
            f"backbone: FSDP shards {whole / 2**20:,.1f} MiB of frozen weights in {len(layers)} layers across"
            f" {processes.count()} processes, {own / 2**20:,.1f} MiB in each"
        )


def hide_sharded_weights(model: nn.Module) -> None:
    """Make DistributedDataParallel ignore sharded weights, which have no gradients."""
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        model, list(_divided(model))
    )


def _layers(backbone: Backbone) -> list[nn.Module]:
    """The decoder blocks that transformers names as units for sharding a model, without embeddings."""
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
        fault = "does not name layers for FSDP to shard (_no_split_modules)"
    elif len(weights) > len(set(weights)):
        fault = "has weights that several layers share, which FSDP cannot shard"
    else:
        return layers
    raise UserError(f"backbone '{backbone.name}' {fault}: launch with --multi_gpu")


def _divided(model: nn.Module) -> dict[str, Any]:
    """Return the sharded weights, by name."""
    from torch.distributed.tensor import DTensor

    return {name: weight for name, weight in model.named_parameters() if isinstance(weight, DTensor)}


def _size(weights: Collection[torch.Tensor]) -> int:
    """Total size in bytes."""
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
        """Announce a further pass to the other processes."""
        if self._announces:
            processes.all_gather(True)
