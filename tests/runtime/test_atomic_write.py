from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from recbole_llmtrsr.runtime.atomic_write import (
    atomic_write,
    atomic_write_folder,
    draft_name,
    remove_drafts,
    replace_folder,
)
from recbole_llmtrsr.runtime.checkpoints import write_checkpoint
from recbole_llmtrsr.training.state_file import write_state


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_file_takes_its_name_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"


def write_whole(path: Path) -> None:
    with atomic_write(path) as file:
        file.write(b"one")


def write_private(path: Path) -> None:
    """As libraries do that make a file by way of a temporary one."""
    with atomic_write_folder(path.parent) as folder:
        (folder / path.name).touch(0o600)


@pytest.mark.parametrize(
    "write",
    [
        write_whole,
        write_private,
        lambda path: write_state(path, {"a": torch.ones(2)}),
        lambda path: write_checkpoint({"a": torch.ones(2)}, path),
    ],
)
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_the_umask_decides_who_may_read_a_file(tmp_path: Path, write, mask: int, mode: int) -> None:
    with umask(mask):
        write(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.txt'"), atomic_write(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")  # as writing to an open file says it
    with pytest.raises(OSError, match=r"No such file or directory: 'elsewhere'"), atomic_write(tmp_path / "a.txt"):
        Path("elsewhere").read_bytes()


def test_of_what_was_left_unfinished_only_our_names_in_the_folder_itself_go(tmp_path: Path) -> None:
    path = tmp_path / "model-seed-1.pth"
    users = [tmp_path / name for name in ("a.tmp", "below/b.tmp", ".hidden", "tmpabc.tmp", "model-seed-1.pth.tmp")]
    for own in [*users, draft_name(path), draft_name(tmp_path / "other"), draft_name(tmp_path / "below" / "c")]:
        own.parent.mkdir(exist_ok=True)
        own.touch()
    (draft_name(tmp_path / "model-seed-1") / "inner").mkdir(parents=True)
    remove_drafts(tmp_path, "model-seed-1.pth")
    assert len([*tmp_path.iterdir()]) == len(users) + 2  # the draft of another file, and that of the folder
    remove_drafts(tmp_path, "model-seed-1")
    assert len([*tmp_path.iterdir()]) == len(users) + 1
    remove_drafts(tmp_path)
    assert {own for own in tmp_path.rglob("*") if own.is_file()} >= {*users}
    assert len([*tmp_path.rglob("*")]) == len(users) + 2  # the folder below, with the draft of another run


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("\u00e4" * 127))
    assert len([*tmp_path.iterdir()]) == 1


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a.txt", b"older")]


def test_a_name_that_is_taken_by_a_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="a.txt"), atomic_write(tmp_path / "a.txt") as file:
        file.write(b"x")
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_of_a_folder_take_their_names_together(tmp_path: Path) -> None:
    for text in ("one", "two"):
        before = content(tmp_path)
        with atomic_write_folder(tmp_path / "new" / "f") as folder:
            (folder / "inner").mkdir()
            (folder / "a").write_text(text)
            (folder / "inner" / "b").write_text(text)
            assert {name: own for name, own in content(tmp_path).items() if "-draft" not in name} == before
        assert content(tmp_path) == {"new/f/a": text, "new/f/inner/b": text}


def test_a_failure_leaves_the_older_files_and_those_of_a_folder_called_tmp(tmp_path: Path) -> None:
    with atomic_write_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("older")
    (tmp_path / "f.tmp").mkdir()
    (tmp_path / "f.tmp" / "half").write_text("x")
    with pytest.raises(KeyboardInterrupt), atomic_write_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt
    assert content(tmp_path) == {"f/a": "older", "f.tmp/half": "x"}


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "folder"
    for name in ("first", "second"):
        with replace_folder(folder) as draft:
            (draft / name).write_text(name)
        assert [path.name for path in folder.iterdir()] == [name]

    with pytest.raises(ZeroDivisionError), replace_folder(folder) as draft:
        (draft / "third").write_text(str(1 / 0))
    replace, calls = os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:  # the older folder is out of the way already
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="No space"), replace_folder(folder) as draft:
        (draft / "fourth").touch()
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]

    def interrupted(source: Path, target: Path) -> None:
        replace(source, target)
        if target == folder:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), replace_folder(folder) as draft:
        (draft / "fifth").touch()
    assert [path.name for path in folder.iterdir()] == ["fifth"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]
