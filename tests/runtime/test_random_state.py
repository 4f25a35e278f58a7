"""Random numbers go on where they were."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from recbole_llmtrsr.runtime.random_state import (
    data_randomness,
    model_randomness,
    restore_data_randomness,
    restore_model_randomness,
)
from recbole_llmtrsr.training.state_file import read_state, write_state


def drawn(loader: torch.Generator) -> list[object]:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.random(3).tolist(),
        np.random.normal(size=3).tolist(),  # an odd number: one is left over for the next call
        torch.rand(3).tolist(),
        torch.randperm(9, generator=loader).tolist(),
    ]


def test_all_generators_go_on_as_they_would_have(tmp_path: Path) -> None:
    loader = torch.Generator().manual_seed(5)
    drawn(loader)
    write_state(tmp_path / "s", {"data": data_randomness(loader), "model": model_randomness()})
    expected = drawn(loader)
    assert drawn(loader) != expected
    state = read_state(tmp_path / "s")
    restore_data_randomness(state["data"], loader)
    restore_model_randomness(state["model"])
    assert drawn(loader) == expected


def test_the_generators_of_data_and_of_the_model_are_apart() -> None:
    loader = torch.Generator()
    state = data_randomness(loader)
    torch.rand(1)
    before = torch.get_rng_state()
    restore_data_randomness(state, loader)
    assert torch.equal(torch.get_rng_state(), before)
