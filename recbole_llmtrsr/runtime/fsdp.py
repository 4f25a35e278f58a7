"""Reads from accelerate's launcher (`fsdp_config`) whether weights are sharded over the processes."""

from __future__ import annotations

import os

from recbole_llmtrsr.errors import UserError

# Unsupported settings of the launcher, by environment variable, and the alternatives.
_REMEDIES = {
    "FSDP_OFFLOAD_PARAMS": "set it to false; load_in: 4bit with --multi_gpu also saves memory",
    "FSDP_ACTIVATION_CHECKPOINTING": "set it to false, and set the option gradient_checkpointing: True of the run",
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "set it to false",
}


def is_requested() -> bool:
    """Whether the environment enables FSDP.

    Raises:
        UserError: it enables a feature that is not supported; the message names the alternative.
    """
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        raise UserError(
            "accelerate is configured for DeepSpeed, which takes over optimizer and checkpoints: launch with"
            " --multi_gpu, or shard the frozen weights of a large backbone with --use_fsdp --fsdp_version=2"
        )
    if not _is_set("ACCELERATE_USE_FSDP"):
        return False
    faults = [f"{name.lower()}: true is not supported: {remedy}" for name, remedy in _REMEDIES.items() if _is_set(name)]
    if not _is_set("FSDP_RESHARD_AFTER_FORWARD", default="true"):
        faults.append(
            "fsdp_reshard_after_forward: false is not supported, because every process would hold all frozen weights:"
            " set it to true, or launch with --multi_gpu"
        )
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        faults.append(f"fsdp_version: {version} is not supported: set fsdp_version: 2")
    if faults:
        raise UserError(faults)
    return True


def hide_from_accelerate() -> None:
    """Hide the setting from accelerate, which would shard the trained weights, too."""
    os.environ.pop("ACCELERATE_USE_FSDP", None)


def _is_set(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() == "true"
