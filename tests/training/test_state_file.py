"""A saved state comes back as it was, whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from recbole_llmtrsr.training.state_file import check_state, read_state, write_state


def test_every_kind_of_value_comes_back_as_it_was(tmp_path: Path) -> None:
    weight = torch.tensor([[1.5, float("nan")], [-0.0, float("inf")]])
    state = {
        "weights": {"a": weight, "tied": weight, "row": weight[1], "column": weight[:, 0]},
        "kinds": [torch.arange(3), torch.tensor(True), torch.zeros(0), torch.ones((), dtype=torch.bfloat16)],
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "betas": (0.9, 0.999)},
        "plain": [None, True, 1, 0.1, -math.inf, "ä \0 {}", [], {}, ()],
    }
    write_state(tmp_path / "s", state)
    found = read_state(tmp_path / "s")
    for name, tensor in state["weights"].items():
        assert torch.equal(found["weights"][name].nan_to_num(7), tensor.nan_to_num(7))
        assert torch.equal(torch.signbit(found["weights"][name]), torch.signbit(tensor))
    for one, tensor in zip(found["kinds"], state["kinds"], strict=True):
        assert one.dtype == tensor.dtype
        assert torch.equal(one, tensor)
    assert found["optimizer"] == {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "betas": (0.9, 0.999)}
    assert found["plain"] == state["plain"]
    assert [type(value) for value in found["plain"]] == [type(value) for value in state["plain"]]


def test_what_cannot_be_saved_is_named_and_leaves_the_older_state(tmp_path: Path) -> None:
    write_state(tmp_path / "s", {"a": 1})
    with pytest.raises(TypeError, match="a saved state cannot hold a set"):
        write_state(tmp_path / "s", {"a": {1}})
    assert read_state(tmp_path / "s") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_sparse_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold a tensor of the layout torch.sparse_coo"):
        check_state([{"a": torch.ones(2, 2).to_sparse()}])
    check_state([{"a": torch.ones(2, 2)}])


def test_a_failure_while_writing_leaves_the_older_state_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    write_state(tmp_path / "s", {"a": 1})

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_state(tmp_path / "s", {"a": torch.ones(1000)})
    assert read_state(tmp_path / "s") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("n_bytes", [0, 7, 100, -1])
def test_a_file_that_was_cut_is_damaged(tmp_path: Path, n_bytes: int) -> None:
    write_state(tmp_path / "s", {"a": torch.ones(10), "b": 1})
    content = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(content[:n_bytes])
    with pytest.raises(ValueError, match=r"s is damaged or is not a saved state"):
        read_state(tmp_path / "s")


def test_a_safetensors_file_of_others_is_no_state(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "s")
    with pytest.raises(ValueError, match="is not a saved state"):
        read_state(tmp_path / "s")
