from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmtrsr.whole_file import whole_file


def test_a_file_takes_its_name_when_all_is_written_and_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a.txt", b"older")]


def test_a_name_that_is_taken_by_a_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="a.txt"), whole_file(tmp_path / "a.txt") as file:
        file.write(b"x")
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]
