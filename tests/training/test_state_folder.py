"""The latest states of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from recbole_llmtrsr.runtime.atomic_write import draft_name
from recbole_llmtrsr.training.state_folder import StateFolder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_latest_states_are_kept_and_the_others_removed(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "states", 2)
    assert states.latest() is None
    assert [states.save({"n": n}) for n in range(4)] == [True] * 4
    assert states.latest() == {"n": 3}
    assert names(tmp_path / "states") == ["00000003.safetensors", "00000004.safetensors"]
    StateFolder(tmp_path / "states", 1).save({"n": 4})  # of another process
    assert names(tmp_path / "states") == ["00000005.safetensors"]
    states.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_is_told_of_and_the_one_before_it_taken(tmp_path: Path, caplog) -> None:
    states = StateFolder(tmp_path, 3)
    for n in range(2):
        states.save({"n": n})
    (tmp_path / "00000002.safetensors").write_bytes(b"half")
    assert states.latest() == {"n": 0}
    assert "00000002.safetensors is damaged" in caplog.text
    assert "using the previous state instead" in caplog.text


def test_a_disk_that_is_full_stops_nothing_and_leaves_the_state_before(tmp_path: Path, caplog, monkeypatch) -> None:
    states = StateFolder(tmp_path, 1)
    states.save({"n": 0})

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    assert states.save({"n": torch.ones(3)}) is False
    assert "No space left on device" in caplog.text
    assert "training continues" in caplog.text
    assert states.latest() == {"n": 0}
    assert names(tmp_path) == ["00000001.safetensors"]


def test_files_of_others_stay_and_are_no_states(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "training-states", 1)
    states.save({"n": 1})
    for name in ("best.safetensors", "notes.tmp", "mine"):
        (tmp_path / "training-states" / name).touch()
    assert states.latest() == {"n": 1}
    states.save({"n": 2})
    assert states.latest() == {"n": 2}
    draft_name(tmp_path / "training-states" / "x").touch()  # of a process that was killed
    states.remove()
    assert names(tmp_path / "training-states") == ["best.safetensors", "mine", "notes.tmp"]
