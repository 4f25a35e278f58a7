"""Vectors on disk: continued, never mixed up."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.embeddings.vector_file import VectorFile


def fill(file, until=None):
    for part in file.missing(4):
        if until is not None and part.start >= until:
            return
        file.write(np.array([[i, -i] for i in part], dtype=np.float64))


def test_rows_are_written_in_parts_and_read_back(tmp_path):
    file = VectorFile(tmp_path / "new" / "v.npy", 10, 2)
    assert [*file.missing(4)] == [range(0, 4), range(4, 8), range(8, 10)]
    fill(file)
    assert [*file.missing(4)] == []
    assert np.load(tmp_path / "new" / "v.npy").tolist() == [[i, -i] for i in range(10)]


def test_a_file_left_unfinished_is_continued(tmp_path):
    fill(VectorFile(tmp_path / "v.npy", 10, 2), until=4)
    again = VectorFile(tmp_path / "v.npy", 10, 2)
    assert [*again.missing(4)] == [range(4, 8), range(8, 10)]
    fill(again)
    assert np.load(tmp_path / "v.npy").tolist() == [[i, -i] for i in range(10)]


def test_rows_that_were_written_but_not_counted_are_written_again(tmp_path):
    file = VectorFile(tmp_path / "v.npy", 10, 2)
    fill(file, until=4)
    file.rows[4:8] = 99  # killed before the count
    again = VectorFile(tmp_path / "v.npy", 10, 2)
    fill(again)
    assert again.rows.tolist() == [[i, -i] for i in range(10)]


def test_a_file_that_another_process_made_first_is_taken(tmp_path, monkeypatch):
    first = VectorFile(tmp_path / "v.npy", 10, 2)
    fill(first, until=8)
    monkeypatch.setattr(type(tmp_path), "exists", lambda path: path.suffix == ".json")  # as seen a moment before
    second = VectorFile(tmp_path / "v.npy", 10, 2)
    assert second.rows[:8].tolist() == [[i, -i] for i in range(8)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.json", "v.npy"]


def test_nothing_is_written_to_a_finished_file(tmp_path):
    fill(VectorFile(tmp_path / "v.npy", 10, 2))
    content = (tmp_path / "v.npy").read_bytes()
    rows = VectorFile(tmp_path / "v.npy", 10, 2).rows
    rows[:] = 7
    del rows
    assert (tmp_path / "v.npy").read_bytes() == content


def test_a_file_without_its_count_begins_anew(tmp_path):
    fill(VectorFile(tmp_path / "v.npy", 10, 2))
    (tmp_path / "v.json").unlink()
    assert VectorFile(tmp_path / "v.npy", 10, 2).n_done == 0


@pytest.mark.parametrize(("name", "content"), [("v.npy", b"junk"), ("v.json", b"junk"), ("v.json", b"{}")])
def test_damaged_files_are_refused_with_a_remedy(tmp_path, name, content):
    fill(VectorFile(tmp_path / "v.npy", 10, 2))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="remove the file"):
        VectorFile(tmp_path / "v.npy", 10, 2)


def test_another_shape_is_refused(tmp_path):
    fill(VectorFile(tmp_path / "v.npy", 10, 2))
    with pytest.raises(UserError, match=r"hold \(10, 2\) of float32, not \(11, 2\)"):
        VectorFile(tmp_path / "v.npy", 11, 2)


def test_a_count_whose_file_was_removed_counts_nothing(tmp_path):
    fill(VectorFile(tmp_path / "v.npy", 10, 2))
    (tmp_path / "v.npy").unlink()
    again = VectorFile(tmp_path / "v.npy", 10, 2)
    assert again.n_done == 0
    fill(again)
    assert np.load(tmp_path / "v.npy").tolist() == [[i, -i] for i in range(10)]


def test_a_full_disk_is_told_before_anything_is_written_to_the_map(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match=r"v\.npy can be neither read nor created \(.*No space left on device"):
        VectorFile(tmp_path / "v.npy", 10, 2)
    assert [*tmp_path.iterdir()] == []
