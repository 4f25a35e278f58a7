"""What accelerate's launcher may be told of dividing weights."""

from __future__ import annotations

import os

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import fsdp, processes


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("FSDP_", "ACCELERATE_USE_")) or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)


def test_nothing_is_divided_unless_asked_for(monkeypatch):
    assert not fsdp.is_requested()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    assert not fsdp.is_requested()


@pytest.mark.parametrize("reshard", ["true", "True", None])
def test_fsdp_of_version_2_is_done_and_accelerate_need_not_see_it(reshard, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    if reshard is not None:
        monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", reshard)
    assert fsdp.is_requested()
    fsdp.hide_from_accelerate()
    assert not fsdp.is_requested()


@pytest.mark.parametrize(
    ("environment", "remedies"),
    [
        ({}, ["set fsdp_version: 2"]),
        ({"FSDP_VERSION": "1"}, ["fsdp_version: 1 is not supported: set fsdp_version: 2"]),
        (
            {"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            ["fsdp_offload_params: true is not supported", "gradient_checkpointing: True"],
        ),
        ({"FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"}, ["set it to true, or launch with --multi_gpu"]),
    ],
)
def test_what_is_not_done_here_is_refused_with_its_remedy_each_time(environment, remedies, monkeypatch):
    for name, value in {"ACCELERATE_USE_FSDP": "true", **environment}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        with pytest.raises(UserError) as error:
            processes.join()
        for remedy in remedies:
            assert remedy in str(error.value)


def test_deepspeed_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match=r"launch with --multi_gpu, or .* --use_fsdp --fsdp_version=2"):
        processes.join()


def test_one_process_has_nothing_to_divide_among(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(UserError, match="there is only one: launch more, or launch without FSDP"):
        processes.join()
