from __future__ import annotations

import numpy as np
import pytest

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, read_candidate_file, write_candidate_file
from recbole_llmtrsr.data.candidates.make import candidate_set
from recbole_llmtrsr.errors import UserError


def test_the_report_tells_what_the_set_is(tmp_path, options, make_dataset):
    made = candidate_set(options(tmp_path), make_dataset(), "test")
    assert made.report() == {
        "hash": made.digest,
        "mode": "uni3",
        "file": str(made.path),
        "n_histories": 3,
        "n_per_history": 4,
        "positives_per_history": 1,
        "negatives_from_history": 0,
    }


def test_what_is_saved_is_the_export(tmp_path, options, make_dataset):
    made = candidate_set(options(tmp_path), make_dataset(), "test")
    saved = read_candidate_file(made.path)
    rows = list(saved.rows())
    assert [(user, n_events, positives) for user, n_events, positives, _ in rows] == [
        ("ann", 2, ["i3"]),
        ("bob", 3, ["i6"]),
        ("cat", 1, ["i1"]),
    ]
    assert [len(negatives) for *_, negatives in rows] == [3, 3, 3]
    assert saved.digest == made.digest


def test_a_history_gets_the_ids_of_its_tokens(tmp_path, options, make_dataset):
    made = candidate_set(options(tmp_path), make_dataset(), "test")
    (negatives,) = (row[3] for row in made.file.rows() if row[0] == "bob")
    ids, is_positive = made[6]  # bob's last event is the seventh of all
    assert ids[is_positive].tolist() == [6]
    assert {f"i{n}" for n in ids[~is_positive]} == set(negatives)


def test_a_history_of_another_split_has_no_candidates(tmp_path, options, make_dataset):
    made = candidate_set(options(tmp_path), make_dataset(), "test")
    assert sorted(made.history_ids.tolist()) == [2, 6, 8]
    for stranger in (0, 3, 9):
        with pytest.raises(KeyError, match="another split"):
            made[stranger]


def test_a_saved_set_is_read_again(tmp_path, options, make_dataset):
    drawn = candidate_set(options(tmp_path), make_dataset(), "test")
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    again = candidate_set(options(tmp_path), make_dataset(), "test")
    assert again.report() == drawn.report()
    assert all(np.array_equal(mine, its) for i in drawn.history_ids for mine, its in zip(again[i], drawn[i]))
    assert path.stat().st_mtime_ns == before
    assert path.name.startswith("toy-test-uni3-")


def test_other_data_are_another_set(tmp_path, options, make_dataset):
    sequences = {"ann": ["i1", "i2", "i3"], "bob": ["i4", "i4", "i5", "i6"]}
    candidate_set(options(tmp_path), make_dataset({**sequences, "cat": ["i7", "i1"]}), "test")
    candidate_set(options(tmp_path), make_dataset({**sequences, "cat": ["i8", "i1"]}), "test")
    assert len(list(tmp_path.iterdir())) == 2


def test_two_targets_of_one_name_are_refused(tmp_path, options, make_dataset):
    dataset = make_dataset()
    dataset.inter_feat["user_id"][:] = 2
    dataset.histories.begin[[2, 8]] = [0, 6]  # all three histories have two events or three
    with pytest.raises(
        UserError,
        match=r"1 rows have the same user and number of events .* user 'bob' after 2 events: with benchmark_filename",
    ):
        candidate_set(options(tmp_path), dataset, "test")


OTHERS = {
    "a row too few": lambda rows: [rows[0], rows[2]],
    "another user": lambda rows: [*rows[:2], ("dan", 1, ["i1"], ["i2", "i3", "i4"])],
    "another target": lambda rows: [(u, n, others[:1], targets + others[1:]) for u, n, targets, others in rows],
    "a stranger": lambda rows: [(u, n, targets, [*others[1:], "new"]) for u, n, targets, others in rows],
    "a short row": lambda rows: [(u, n, targets, others[:-1]) for u, n, targets, others in rows],
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_set_that_fits_no_longer_is_refused(tmp_path, options, make_dataset, change):
    drawn = candidate_set(options(tmp_path), make_dataset(), "test")
    write_candidate_file(drawn.path, CandidateFile.from_rows(change([*drawn.file.rows()])))
    with pytest.raises(UserError, match=r"was changed since it was drawn: delete it to draw the candidates again"):
        candidate_set(options(tmp_path), make_dataset(), "test")
    drawn.path.unlink()
    assert candidate_set(options(tmp_path), make_dataset(), "test").digest == drawn.digest


def test_a_damaged_set_is_refused_with_the_remedy(tmp_path, options, make_dataset):
    path = candidate_set(options(tmp_path), make_dataset(), "test").path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        UserError, match=rf"candidate file .*{path.name}: cannot be read .*; delete it to draw the candidates again"
    ):
        candidate_set(options(tmp_path), make_dataset(), "test")


def test_a_folder_that_cannot_be_written_is_told(tmp_path, options, make_dataset):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written: .*set candidate_dir to another folder"):
        candidate_set(options(tmp_path / "file"), make_dataset(), "test")
