"""Checkpoints as RecBole's trainer sees them: from elsewhere, they run no code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import checkpoints, recbole_patches


@pytest.fixture
def seen() -> Any:
    """The `torch` that RecBole's trainer sees; trust is taken back after the test."""
    recbole_patches.apply()
    from recbole.trainer import trainer

    yield trainer.torch
    checkpoints.trust_checkpoints(False)


class Touch:
    """Un-pickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def _foreign(path: Path, mark: Path, how: str) -> Path:
    """A checkpoint from elsewhere whose un-pickling creates `mark`."""
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(Touch(mark)))
    else:
        torch.save({"config": Touch(mark)}, path, _use_new_zipfile_serialization=how == "archive")
    return path


@pytest.mark.parametrize("how", ["archive", "legacy", "plain pickle"])
def test_a_checkpoint_from_elsewhere_runs_no_code(seen: Any, tmp_path: Path, how: str) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(UserError):
        seen.load(_foreign(tmp_path / "foreign.pth", mark, how), map_location="cpu")
    assert not mark.exists()


def test_the_refusal_names_the_file_and_its_remedy_works(seen: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = _foreign(tmp_path / "foreign.pth", mark, "archive")
    with pytest.raises(UserError) as refusal:
        seen.load(path)
    assert str(refusal.value) == (
        f"checkpoint {str(path)!r} was not written by this run and holds more than tensors and plain values, so "
        "loading it could run arbitrary code; accepted are checkpoints written by this run, and those of tensors and "
        "plain values. If you trust its origin, set trust_checkpoint: True"
    )
    checkpoints.trust_checkpoints(True)
    seen.load(path)
    assert mark.exists()


def test_a_checkpoint_of_tensors_and_plain_values_from_elsewhere_is_accepted(seen: Any, tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"weight": torch.tensor([1.0, 2.0])}}, tmp_path / "plain.pth")
    loaded = seen.load(tmp_path / "plain.pth", map_location="cpu")
    assert loaded["epoch"] == 3
    assert loaded["state_dict"]["weight"].tolist() == [1.0, 2.0]


def test_an_own_checkpoint_that_was_replaced_is_refused_though_size_and_time_agree(seen: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    own = tmp_path / "own.pth"
    seen.save({"weight": torch.zeros(100)}, own)
    stat = own.stat()
    own.write_bytes(pickle.dumps(Touch(mark)).ljust(stat.st_size, b"\0"))
    os.utime(own, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (own.stat().st_size, own.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    with pytest.raises(UserError):
        seen.load(own)
    assert not mark.exists()


def test_an_own_checkpoint_may_be_moved(seen: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    seen.save({"config": Touch(mark)}, tmp_path / "own.pth")
    seen.load((tmp_path / "own.pth").rename(tmp_path / "moved.pth"))
    assert mark.exists()


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "other archive"])
def test_a_damaged_checkpoint_is_the_users_to_mend(seen: Any, tmp_path: Path, damage: str, trusted: bool) -> None:
    path = tmp_path / "damaged.pth"
    torch.save({"weight": torch.zeros(100)}, path)
    if damage == "other archive":
        np.savez(tmp_path / "other.npz", weight=np.zeros(2))
        path = tmp_path / "other.npz"
    else:
        path.write_bytes({"empty": b"", "text": b"hello, world", "truncated": path.read_bytes()[:-60]}[damage])
    checkpoints.trust_checkpoints(trusted)
    with pytest.raises(UserError, match=r"give a complete file written by torch\.save") as fault:
        seen.load(path)
    assert repr(str(path)) in str(fault.value)


def test_a_checkpoint_that_is_not_there_is_the_users_to_mend(seen: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pth' cannot be read \(No such file or directory\)"):
        seen.load(tmp_path / "nowhere.pth")
