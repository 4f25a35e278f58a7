from __future__ import annotations

import pytest

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, read_candidate_file, write_candidate_file
from recbole_llmtrsr.data.candidates.make import candidate_set
from recbole_llmtrsr.errors import UserError

# The targets are i3 after ann's 2 events, i6 after bob's 3, i1 after cat's 1.
ANN = ("ann", 2, ["i3"], ["i4", "i5"])
BOB = ("bob", 3, ["i7", "i6"], ["i4"])
CAT = ("cat", 1, ["i1"], ["i2", "i3", "i9", "i12"])
EARLIER = ("bob", 1, ["i4"], ["i2"])
STRANGER = ("zoe", 4, ["i2"], ["unheard"])


@pytest.fixture
def make(tmp_path, options, make_dataset):
    """The candidate set of the rows of a file."""

    def make(*rows, mode="impressions", **more):
        name = "toy.impressions.npz" if mode == "impressions" else mode.removeprefix("file:")
        write_candidate_file(tmp_path / name, CandidateFile.from_rows(rows))
        mode = mode.replace("file:", f"file:{tmp_path}/")
        return candidate_set(
            options(tmp_path, mode, candidate_dir=str(tmp_path / "kept"), **more), make_dataset(), "test"
        )

    return make


@pytest.mark.parametrize("mode", ["impressions", "file:ours.npz", "file:ours.jsonl"])
def test_a_row_finds_its_candidates_by_user_and_events_before(make, mode):
    made = make(EARLIER, CAT, STRANGER, BOB, ANN, mode=mode)
    assert [(user, n, set(p), set(o)) for user, n, p, o in made.file.rows()] == [
        ("ann", 2, {"i3"}, {"i4", "i5"}),
        ("bob", 3, {"i6", "i7"}, {"i4"}),
        ("cat", 1, {"i1"}, {"i2", "i3", "i9", "i12"}),
    ]
    assert made.history_ids.tolist() == [2, 6, 8]
    ids, is_positive = made[6]
    assert (set(ids[is_positive]), set(ids[~is_positive])) == ({6, 7}, {4})


def test_the_report_tells_of_lists_of_different_lengths(make):
    report = make(ANN, BOB, CAT).report()
    assert (report["n_per_history"], report["positives_per_history"]) == ([3, 3.667, 5], [1, 1.333, 2])
    assert report["negatives_from_history"] == 1  # bob's i4


def test_impressions_of_the_splits_users_that_are_not_ranked_are_counted(make, caplog):
    caplog.set_level("INFO")
    made = make(EARLIER, BOB, STRANGER, ("ann", 0, ["i1"], ["i2"]), ("cat", 1, ["i1"], []))
    assert made.history_ids.tolist() == [6]
    assert (made.report()["n_histories"], made.report()["impressions_left_out"]) == (1, 3)
    assert "3 impressions left out" in caplog.text
    assert make(ANN, BOB).report()["impressions_left_out"] == 0  # cat's target is no click of an impression


@pytest.mark.parametrize(
    ("mode", "count"), [("impressions", "impressions_left_out"), ("file:ours.npz", "rows_without_negatives")]
)
def test_a_row_without_negatives_is_not_ranked_but_counted(make, mode, count):
    made = make(ANN, ("bob", 3, ["i6", "i7"], []), CAT, mode=mode)
    assert made.history_ids.tolist() == [2, 8]
    assert [user for user, *_ in made.file.rows()] == ["ann", "cat"]
    assert made.report()[count] == 1
    assert make(ANN, BOB, CAT, mode=mode).report()[count] == 0


def test_an_impression_whose_negatives_nobody_knows_is_not_ranked(make):
    made = make(ANN, ("bob", 3, ["i6"], ["new"]), CAT, catalogue="items")
    assert [user for user, *_ in made.file.rows()] == ["ann", "cat"]
    assert (made.report()["impressions_left_out"], made.report()["left_out_candidates"]) == (1, 0)


def test_the_ranked_part_is_saved_for_other_programs(make, tmp_path):
    made = make(EARLIER, BOB, STRANGER)
    assert made.path.parent == tmp_path / "kept"
    assert made.path.name == f"toy-test-impressions-{made.digest[:12]}.npz"
    assert list(read_candidate_file(made.path).rows()) == [("bob", 3, ["i6", "i7"], ["i4"])]
    before = made.path.read_bytes()
    assert make(EARLIER, BOB, STRANGER).report() == made.report()
    assert made.path.read_bytes() == before


def test_impressions_of_no_target_are_refused(make):
    for rows in ((EARLIER, STRANGER), (("bob", 3, ["i6"], []),)):
        with pytest.raises(UserError, match=r"none of the 3 targets has a row with a negative in .*split: {US: \[0.8"):
            make(*rows)


def test_a_file_without_any_negative_is_refused(make):
    rows = [(*row[:3], []) for row in (ANN, BOB, CAT)]
    with pytest.raises(UserError, match=r"none of the 3 targets has a row with a negative in .*ours.npz$"):
        make(*rows, mode="file:ours.npz")


def test_impressions_that_were_not_converted_are_told_with_the_command(tmp_path, options, make_dataset):
    with pytest.raises(
        UserError, match=r"needs .*toy.impressions.npz, which 'python -m recbole_llmtrsr.data.prepare mi"
    ):
        candidate_set(options(tmp_path, "impressions"), make_dataset(), "test")


def test_a_file_must_speak_of_every_target(make):
    with pytest.raises(UserError) as fault:
        make(CAT, EARLIER, mode="file:ours.npz")
    assert "no row for 2 of 3 targets, such as user 'ann' after 2 events, user 'bob' after 3 events: every" in str(
        fault.value
    )


@pytest.mark.parametrize("mode", ["impressions", "file:ours.npz"])
def test_a_target_that_is_no_positive_is_refused(make, mode):
    with pytest.raises(
        UserError, match=r"target of 1 of 3 rows is not a positive in .*, such as user 'ann' after 2 events:"
    ):
        make(("ann", 2, ["i4"], ["i3", "i5"]), BOB, CAT, mode=mode)


@pytest.mark.parametrize("mode", ["impressions", "file:ours.npz"])
def test_candidates_that_nobody_chose_ask_for_the_item_file(make, mode):
    with pytest.raises(
        UserError, match=r"2 candidates in .* are not items of data set 'toy', such as new, newer: set cat"
    ):
        make(ANN, BOB, ("cat", 1, ["i1"], ["newer", "i2", "new"]), mode=mode)


def test_a_file_may_not_name_items_without_a_line(make):
    with pytest.raises(UserError, match=r"1 candidates .*, such as new: add them to the .item file, or remove them"):
        make(ANN, BOB, ("cat", 1, ["i1"], ["new"]), mode="file:ours.npz", catalogue="items")


def test_shown_news_without_a_line_are_left_out_and_counted(make):
    made = make(ANN, BOB, ("cat", 1, ["i1"], ["new", "i2", "newer"]), catalogue="items")
    assert list(made.file.rows())[2] == ("cat", 1, ["i1"], ["i2"])
    assert made.report()["left_out_candidates"] == 2
    assert made.report()["impressions_left_out"] == 0


def test_clicked_news_without_a_line_are_refused(make):
    with pytest.raises(UserError, match=r"1 candidates .*, such as new: add them to the .item file"):
        make(ANN, BOB, ("cat", 1, ["i1", "new"], ["i2"]), catalogue="items")


def test_the_padding_is_no_item(make):
    with pytest.raises(UserError, match=r"1 candidates .*, such as \[PAD\]"):
        make(ANN, BOB, ("cat", 1, ["i1"], ["[PAD]"]), mode="file:ours.npz")


def test_a_faulty_file_is_refused(make, tmp_path, options, make_dataset):
    (tmp_path / "ours.jsonl").write_text('{"user": "ann"}\n')
    with pytest.raises(UserError, match=r"candidate file .*ours.jsonl: line 1: must be an object with exactly"):
        candidate_set(options(tmp_path, f"file:{tmp_path}/ours.jsonl"), make_dataset(), "test")
