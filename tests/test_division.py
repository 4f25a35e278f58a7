"""What accelerate's launcher may be told of dividing weights."""

from __future__ import annotations

import os

import pytest

from recbole_llmtrsr.division import Division, division_asked_for
from recbole_llmtrsr.errors import UserError


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("FSDP_", "ACCELERATE_USE_")):
            monkeypatch.delenv(name)


def test_nothing_is_divided_unless_asked_for(monkeypatch):
    assert division_asked_for() is None
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    assert division_asked_for() is None


@pytest.mark.parametrize(("told", "again"), [("true", True), ("True", True), ("false", False), (None, True)])
def test_fsdp_of_version_2_is_told_once_and_accelerate_does_not_see_it(told, again, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    if told is not None:
        monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", told)
    assert division_asked_for() == Division(again=again)
    assert "ACCELERATE_USE_FSDP" not in os.environ


@pytest.mark.parametrize(
    ("environment", "remedies"),
    [
        ({}, ["set fsdp_version: 2"]),
        ({"FSDP_VERSION": "1"}, ["fsdp_version: 1 is not supported: set fsdp_version: 2"]),
        (
            {"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            ["fsdp_offload_params: true is not supported", "gradient_checkpointing: True"],
        ),
    ],
)
def test_what_is_not_done_here_is_refused_with_its_remedy(environment, remedies, monkeypatch):
    for name, value in {"ACCELERATE_USE_FSDP": "true", **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        division_asked_for()
    for remedy in remedies:
        assert remedy in str(error.value)


def test_deepspeed_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match="launch with --multi_gpu, or .* --use_fsdp --fsdp_version=2"):
        division_asked_for()
