"""The states of the random generators of Python, NumPy, torch and a data loader, as plain values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def data_randomness(generator: torch.Generator) -> dict[str, Any]:
    """The states of the generators that make batches: Python's, NumPy's, and a loader's."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    words = torch.from_numpy(np.asarray(keys).astype(np.int64))
    return {
        "python": (version, list(numbers), gauss),
        "numpy": (str(kind), words, int(position), int(has_gauss), float(cached)),
        "loader": generator.get_state(),
    }


def restore_data_randomness(state: dict[str, Any], generator: torch.Generator) -> None:
    """Restore what `data_randomness` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    generator.set_state(state["loader"])


def model_randomness() -> dict[str, Any]:
    """The states of torch's generators, from which dropout draws: the CPU's, and those of all GPUs."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "gpus": gpus}


def restore_model_randomness(state: dict[str, Any]) -> None:
    """Restore what `model_randomness` returned; the states of GPUs only if their number is the same."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["gpus"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["gpus"])


@contextmanager
def undisturbed_randomness() -> Iterator[None]:
    """Restore all generators after the block, except those of loaders."""
    unused = torch.Generator()
    of_data, of_model = data_randomness(unused), model_randomness()
    try:
        yield
    finally:
        restore_data_randomness(of_data, unused)
        restore_model_randomness(of_model)
