"""Backbones whose frozen weights are divided: what is refused, and how processes keep in step."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.fsdp as fsdp
from torch import nn
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from recbole_llmtrsr.config.options import BackboneSettings
from recbole_llmtrsr.engine import sharding
from recbole_llmtrsr.engine.sharding import WeightDivider, _InStep, _layers, check_can_divide
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.lora import apply_lora
from recbole_llmtrsr.runtime import processes

ARCHITECTURES = (
    *("llama", "qwen2", "qwen3", "mistral", "gemma3", "gemma2", "granite", "cohere", "gpt_neox", "phi", "gpt2", "opt"),
    *("bert", "bloom", "falcon", "mpt", "gptj", "phi3", "cohere2", "olmoe", "gpt_oss", "deepseek_v3", "llama4"),
    *("qwen3_next", "lfm2", "falcon_h1", "bamba", "rwkv"),
)


@pytest.mark.parametrize("n_passes", [(3, 1), (0, 2), (2, 2), (0, 0), (1, 4, 2)])
def test_all_processes_make_as_many_passes_as_the_one_that_has_most(n_passes, monkeypatch):
    barrier = threading.Barrier(len(n_passes), timeout=10)
    told: list[Any] = [None] * len(n_passes)
    made: list[list[str]] = [[] for _ in n_passes]
    this = threading.local()

    def all_gather(value: Any) -> list[Any]:
        told[this.rank] = value
        barrier.wait()
        seen = list(told)
        barrier.wait()
        return seen

    monkeypatch.setattr(processes, "all_gather", all_gather)

    def work(rank: int) -> None:
        this.rank = rank
        in_step = _InStep(lambda: made[rank].append("idle"))
        in_step.before_pass()  # outside, nobody is told
        with in_step.passes():
            for _ in range(n_passes[rank]):
                in_step.before_pass()
                made[rank].append("own")

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(n_passes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    most = max(n_passes)
    assert made == [["own"] * own + ["idle"] * (most - own) for own in n_passes]


@pytest.mark.parametrize(
    ("options", "is_old_torch", "fault"),
    [
        ({"backbone": "builtin", "tune": "auto"}, False, "tune: auto freezes no weights of backbone 'builtin'"),
        ({"backbone": "some/model", "tune": "all"}, False, "set tune: lora, or launch with --multi_gpu"),
        (
            {"backbone": "some/model", "load_in": "4bit"},
            False,
            "load_in: 4bit quantizes weights, which FSDP cannot",
        ),
        ({"backbone": "some/model"}, True, "install torch 2.7 or later"),
        ({"backbone": "some/model"}, False, None),
        ({"backbone": "builtin", "tune": "lora"}, False, None),
    ],
)
def test_what_cannot_be_divided_is_refused_before_work(options, is_old_torch, fault, monkeypatch):
    settings = dataclasses.replace(BackboneSettings(), **options)
    monkeypatch.setattr(sharding, "is_torch_version", lambda operation, version: is_old_torch)
    check_can_divide(settings)  # nothing is to be divided
    monkeypatch.setattr(processes, "divides_weights", lambda: True)
    if fault is None:
        check_can_divide(settings)
        return
    with pytest.raises(UserError, match=fault):
        check_can_divide(settings)


class Block(nn.Module):
    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleList(inner)
        self.weight = nn.Parameter(torch.zeros(2, 2))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 2)


def backbone(named: list[str] | None) -> Any:
    decoder = nn.ModuleDict({"words": Words(), "first": Block(Block()), "second": Block()})
    return SimpleNamespace(name="own", decoder=decoder, transformer=SimpleNamespace(_no_split_modules=named))


def test_layers_are_the_outermost_blocks_without_embeddings():
    own = backbone(["Block", "Words"])
    assert _layers(own) == [own.decoder["first"], own.decoder["second"]]


def test_weights_that_layers_share_are_refused():
    own = backbone(["Block"])
    own.decoder["second"].weight = own.decoder["first"].weight
    with pytest.raises(UserError, match="'own' has weights that several layers share"):
        _layers(own)


@pytest.mark.parametrize("named", [None, [], ["Words"]])
def test_a_backbone_that_does_not_name_its_layers_is_refused(named):
    with pytest.raises(UserError, match="'own' does not name layers"):
        _layers(backbone(named))


@pytest.fixture
def first_of_two(monkeypatch):
    """This process as the first of two, whose collective calls do nothing: what is gathered is half right."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    monkeypatch.setattr(processes, "count", lambda: 2)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_divided_and_read_as_a_whole_and_by_its_decoder(architecture, tiny, first_of_two):
    backbone = tiny(architecture)
    apply_lora(backbone, 2, 4, 0.0)
    trained = {name for name, weight in backbone.named_parameters() if weight.requires_grad}
    n_whole = sum(weight.numel() for weight in backbone.parameters())
    layers = _layers(backbone)
    originals = [weakref.ref(weight) for layer in layers for weight in layer.parameters() if not weight.requires_grad]
    WeightDivider(torch.device("cpu")).divide(backbone)

    kept = {name for name, weight in backbone.named_parameters() if not isinstance(weight, DTensor)}
    assert trained <= kept
    assert {name for name, weight in backbone.named_parameters() if weight.requires_grad} == trained
    in_layers = [weight for layer in layers for weight in layer.parameters() if not weight.requires_grad]
    assert all(isinstance(weight, DTensor) for weight in in_layers)
    assert all(len(weight.to_local()) == -(-len(weight) // 2) for weight in in_layers)
    assert sum(weight.numel() for weight in backbone.parameters()) == n_whole
    assert not any(original() is not None for original in originals)

    ids = torch.tensor([[3, 4, 5]])
    for _ in range(2):
        assert backbone.decoder(input_ids=ids, use_cache=False).last_hidden_state.shape[:2] == (1, 3)
        backbone.lm(input_ids=ids, use_cache=False).logits.sum().backward()
    assert all(weight.grad is None for weight in in_layers)


def test_whole_weights_go_as_soon_as_their_layer_is_divided(tiny, first_of_two, monkeypatch):
    backbone = tiny("llama", num_hidden_layers=4)
    apply_lora(backbone, 2, 4, 0.0)
    whole = [
        [weakref.ref(weight) for weight in layer.parameters() if not weight.requires_grad]
        for layer in _layers(backbone)
    ]
    left: list[int] = []
    divide = fsdp.fully_shard

    def watched(*arguments: Any, **options: Any) -> None:
        divide(*arguments, **options)
        gc.collect()
        left.append(sum(any(weight() is not None for weight in layer) for layer in whole))

    monkeypatch.setattr(fsdp, "fully_shard", watched)
    WeightDivider(torch.device("cpu")).divide(backbone)
    assert left == [3, 2, 1, 0, 0]  # and the decoder around them
