"""How weights are to be divided among processes, as accelerate's launcher was told (`fsdp_config`)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from recbole_llmtrsr.errors import UserError

# What a launcher may be told to do, and how it is done here.
_REMEDIES = {
    "offload_params": "set it to false; load_in: 4bit with --multi_gpu is another way to less memory",
    "activation_checkpointing": "set it to false, and gradient_checkpointing: True among the options of the run",
}


@dataclass(frozen=True)
class Division:
    """How frozen weights are divided among processes.

    Attributes:
        again: also between the forward and the backward pass, which takes less memory and more time.
    """

    again: bool


def division_asked_for() -> Division | None:
    """What the environment says; afterwards it does not, lest accelerate divide the trained weights too.

    Raises:
        UserError: of what is not done here, with the remedy.
    """
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        raise UserError(
            "accelerate is configured for DeepSpeed, which takes over optimizer and checkpoints: launch with"
            " --multi_gpu, or divide the frozen weights of a large backbone with --use_fsdp --fsdp_version=2"
        )
    if not _is_set("ACCELERATE_USE_FSDP"):
        return None
    del os.environ["ACCELERATE_USE_FSDP"]
    faults = [
        f"fsdp_{name}: true is not supported: {remedy}"
        for name, remedy in _REMEDIES.items()
        if _is_set(f"FSDP_{name.upper()}")
    ]
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        faults.append(f"fsdp_version: {version} is not supported: set fsdp_version: 2")
    if faults:
        raise UserError(faults)
    return Division(again=os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false")


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"
