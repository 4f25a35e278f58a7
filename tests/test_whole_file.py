from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmtrsr.whole_file import whole_file, whole_files


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


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_of_a_folder_take_their_names_together(tmp_path: Path) -> None:
    for text in ("one", "two"):
        before = content(tmp_path)
        with whole_files(tmp_path / "new" / "f") as folder:
            (folder / "inner").mkdir()
            (folder / "a").write_text(text)
            (folder / "inner" / "b").write_text(text)
            assert {name: own for name, own in content(tmp_path).items() if ".tmp" not in name} == before
        assert content(tmp_path) == {"new/f/a": text, "new/f/inner/b": text}


def test_a_failure_leaves_the_older_files_and_a_kill_no_more_than_until_the_next_time(tmp_path: Path) -> None:
    with whole_files(tmp_path / "f") as folder:
        (folder / "a").write_text("older")
    (tmp_path / "f.tmp").mkdir()
    (tmp_path / "f.tmp" / "half").write_text("x")
    with pytest.raises(KeyboardInterrupt), whole_files(tmp_path / "f") as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt
    assert content(tmp_path) == {"f/a": "older"}
