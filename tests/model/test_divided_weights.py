"""Backbones whose frozen weights are divided: what is refused, and how processes keep in step."""

from __future__ import annotations

import dataclasses
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from recbole_llmtrsr import processes
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model import divided_weights
from recbole_llmtrsr.model.divided_weights import _InStep, _layers, check_can_divide
from recbole_llmtrsr.options import BackboneSettings


@pytest.mark.parametrize("n_passes", [(3, 1), (0, 2), (2, 2), (0, 0), (1, 4, 2)])
def test_all_processes_make_as_many_passes_as_the_one_that_has_most(n_passes, monkeypatch):
    barrier = threading.Barrier(len(n_passes), timeout=10)
    told: list[Any] = [None] * len(n_passes)
    made: list[list[str]] = [[] for _ in n_passes]
    this = threading.local()

    def gathered(value: Any) -> list[Any]:
        told[this.rank] = value
        barrier.wait()
        seen = list(told)
        barrier.wait()
        return seen

    monkeypatch.setattr(processes, "gathered", gathered)

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
    ("options", "torch_version", "fault"),
    [
        ({"backbone": "builtin", "tune": "auto"}, "2.13.0", "tune: auto freezes no weights of backbone 'builtin'"),
        ({"backbone": "some/model", "tune": "all"}, "2.13.0", "set tune: lora, or launch with --multi_gpu"),
        (
            {"backbone": "some/model", "load_in": "4bit"},
            "2.13.0",
            "load_in: 4bit makes weights that FSDP cannot",
        ),
        ({"backbone": "some/model"}, "2.6.0", "install 2.7 or later"),
        ({"backbone": "some/model"}, "2.7.0", None),
        ({"backbone": "builtin", "tune": "lora"}, "2.13.0", None),
    ],
)
def test_what_cannot_be_divided_is_refused_before_work(options, torch_version, fault, monkeypatch):
    settings = dataclasses.replace(BackboneSettings(), **options)
    older = tuple(map(int, torch_version.split("."))) < (2, 7)
    monkeypatch.setattr(divided_weights, "is_torch_version", lambda operation, version: older)
    check_can_divide(settings)  # nothing is to be divided
    monkeypatch.setattr(processes, "divide_weights", lambda: True)
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


@pytest.mark.parametrize("named", [None, [], ["Words"]])
def test_a_backbone_that_does_not_name_its_layers_is_refused(named):
    with pytest.raises(UserError, match="'own' does not name the layers"):
        _layers(backbone(named))
