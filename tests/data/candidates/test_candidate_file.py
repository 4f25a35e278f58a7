from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc

import numpy as np
import pytest

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, read_candidate_file, write_candidate_file
from recbole_llmtrsr.errors import UserError

ROWS = [
    ("bob", 3, ["i2"], ["i9", "i10"]),
    ("ann", 10, ["z", "i2"], ["b"]),
    ("ann", 2, ["ü"], []),
]
ORDERED = [
    ("ann", 2, ["ü"], []),
    ("ann", 10, ["i2", "z"], ["b"]),
    ("bob", 3, ["i2"], ["i10", "i9"]),
]


@pytest.fixture
def arrays():
    """Of one row of user a after 4 events, with positive x and negatives y and z, and one of b after 0 with y and x."""
    return {
        "users": np.array(["a", "b"]),
        "n_events": np.array([4, 0]),
        "tokens": np.array(["x", "y", "z"]),
        "offsets": np.array([0, 3, 5]),
        "items": np.array([0, 1, 2, 1, 0], dtype=np.int32),
        "is_positive": np.array([True, False, False, True, False]),
    }


def test_rows_of_any_length_come_back_ordered():
    file = CandidateFile.from_rows(ROWS)
    assert list(file.rows()) == ORDERED
    assert len(file) == 3
    assert file.users.tolist() == ["ann", "ann", "bob"]
    assert file.n_events.tolist() == [2, 10, 3]
    assert file.tokens.tolist() == ["b", "i10", "i2", "i9", "z", "ü"]
    assert file.offsets.tolist() == [0, 1, 4, 7]
    assert file.items.tolist() == [5, 0, 2, 4, 1, 2, 3]
    assert file.is_positive.tolist() == [True, False, True, True, False, True, False]
    assert [file.n_events.dtype, file.offsets.dtype, file.items.dtype] == [np.int64, np.int64, np.int32]
    assert file.lengths.tolist() == [1, 3, 3]
    assert file.n_positives.tolist() == [1, 2, 1]
    assert file.row_of_item.tolist() == [0, 1, 1, 1, 2, 2, 2]


def test_the_digest_is_of_the_content_not_of_an_order():
    turned = [(user, n, positives[::-1], negatives[::-1]) for user, n, positives, negatives in ROWS[::-1]]
    names = [["ann", "ann", "bob"], ["b", "i10", "i2", "i9", "z", "ü"]]
    numbers = [*(2, 10, 3), *(0, 1, 4, 7), *(5, 0, 2, 4, 1, 2, 3), *(1, 0, 1, 1, 0, 1, 0)]
    expected = hashlib.sha256(json.dumps(names).encode() + struct.pack(f"<{len(numbers)}q", *numbers)).hexdigest()
    assert CandidateFile.from_rows(ROWS).digest == expected
    assert CandidateFile.from_rows(turned).digest == expected


@pytest.mark.parametrize(
    "changed",
    [
        ("bob", 3, ["i2"], ["i9", "i11"]),
        ("bob", 3, ["i9"], ["i2", "i10"]),
        ("bob", 3, ["i2", "i9"], ["i10"]),
        ("bob", 3, ["i2"], ["i9"]),
        ("bob", 4, ["i2"], ["i9", "i10"]),
        ("rob", 3, ["i2"], ["i9", "i10"]),
    ],
)
def test_any_change_of_content_is_another_digest(changed):
    assert CandidateFile.from_rows([changed, *ROWS[1:]]).digest != CandidateFile.from_rows(ROWS).digest


def test_tokens_that_no_row_names_do_not_count(arrays):
    wider = {**arrays, "tokens": np.array(["x", "y", "z", "unused"])}
    assert CandidateFile(**wider).digest == CandidateFile(**arrays).digest


@pytest.mark.parametrize("name", ["file.npz", "file.jsonl"])
def test_what_is_written_is_read(tmp_path, name):
    file = CandidateFile.from_rows(ROWS)
    write_candidate_file(tmp_path / "new" / name, file)
    again = read_candidate_file(tmp_path / "new" / name)
    assert list(again.rows()) == ORDERED
    assert again.digest == file.digest
    first = (tmp_path / "new" / name).read_bytes()
    write_candidate_file(tmp_path / "new" / name, again)
    assert (tmp_path / "new" / name).read_bytes() == first


def test_lines_are_what_other_programs_read(tmp_path):
    write_candidate_file(tmp_path / "file.jsonl", CandidateFile.from_rows(ROWS))
    assert [json.loads(line) for line in (tmp_path / "file.jsonl").read_bytes().splitlines()] == [
        {"user": "ann", "n_events": 2, "positives": ["ü"], "negatives": []},
        {"user": "ann", "n_events": 10, "positives": ["i2", "z"], "negatives": ["b"]},
        {"user": "bob", "n_events": 3, "positives": ["i2"], "negatives": ["i10", "i9"]},
    ]


def test_a_set_without_rows_is_a_set(tmp_path):
    write_candidate_file(tmp_path / "file.npz", CandidateFile.from_rows([]))
    assert list(read_candidate_file(tmp_path / "file.npz").rows()) == []


def test_some_rows_and_some_items():
    file = CandidateFile.from_rows(ROWS)
    assert list(file.select(np.array([2, 0])).rows()) == [ORDERED[0], ORDERED[2]]
    keep = file.is_positive | (file.tokens[file.items] == "i9")
    assert list(file.select(np.array([1, 2]), keep).rows()) == [
        ("ann", 10, ["i2", "z"], []),
        ("bob", 3, ["i2"], ["i9"]),
    ]
    assert len(file.select(np.zeros(0, dtype=np.int64))) == 0


FAULTS = {
    "a row twice": (
        [("a", 1, ["x"], ["y"]), ("b", 1, ["x"], ["y"]), ("a", 1, ["z"], ["y"])],
        "1 rows named again: user 'a' after 1 events",
    ),
    "a positive among the negatives": (
        [("a", 1, ["x"], ["y", "x"])],
        "1 items both positive and negative: 'x' of user 'a' after 1 events",
    ),
    "a negative twice": (
        [("a", 1, ["x"], ["y", "y", "z"])],
        "1 items twice in a row: 'y' of user 'a' after 1 events",
    ),
    "an empty row": ([("a", 1, [], []), ("b", 2, ["x"], [])], "1 rows without a positive: user 'a' after 1 events"),
    "negatives alone": ([("a", 1, [], ["x"])], "1 rows without a positive: user 'a' after 1 events"),
    "a negative number of events": (
        [("a", -1, ["x"], ["y"])],
        "1 rows with a negative number of events: user 'a' after -1 events",
    ),
}


@pytest.mark.parametrize(("rows", "fault"), FAULTS.values(), ids=FAULTS)
def test_faulty_rows_are_refused_by_name(rows, fault):
    with pytest.raises(UserError) as refused:
        CandidateFile.from_rows(rows)
    assert refused.value.faults == (fault,)


def test_all_faults_are_told_at_once_and_five_of_each_by_name():
    rows = [("a", n, [], ["x", "x"]) for n in range(7)]
    with pytest.raises(UserError) as refused:
        CandidateFile.from_rows(rows)
    named = ", ".join(f"user 'a' after {n} events" for n in range(5))
    items = ", ".join(f"'x' of user 'a' after {n} events" for n in range(5))
    assert refused.value.faults == (
        f"7 rows without a positive: {named}, ...",
        f"7 items twice in a row: {items}, ...",
    )


ARRAYS = {
    "users are numbers": ({"users": np.array([1, 2])}, r"users must be a list of strings, got int64 of shape \(2,\)"),
    "n_events are floats": (
        {"n_events": np.array([4.0, 0.0])},
        r"n_events must be a list of whole numbers, got float64",
    ),
    "items are a table": ({"items": np.zeros((5, 1), dtype=int)}, r"items must be .*, got int64 of shape \(5, 1\)"),
    "labels are numbers": ({"is_positive": np.array([1, 0, 0, 1, 0])}, "is_positive must be a list of booleans"),
    "a row too few": (
        {"offsets": np.array([0, 5])},
        r"users and n_events must have the same length, and offsets one more, got 2",
    ),
    "offsets that fall": ({"offsets": np.array([0, 6, 5])}, "offsets must rise from 0 to the number of items, 5"),
    "offsets that end early": ({"offsets": np.array([0, 3, 4])}, "offsets must rise from 0 to the number of items, 5"),
    "a label too few": ({"is_positive": np.array([True] * 4)}, "is_positive must have the length of items, 5, got 4"),
    "an index too high": ({"items": np.array([0, 1, 3, 1, 0])}, "items must be indices of the 3 tokens, got 0 to 3"),
    "an index below 0": ({"items": np.array([0, 1, -1, 1, 0])}, "items must be indices of the 3 tokens, got -1 to 1"),
    "a token twice": ({"tokens": np.array(["x", "y", "y"])}, "1 tokens named again: 'y'"),
}


@pytest.mark.parametrize(("change", "fault"), ARRAYS.values(), ids=ARRAYS)
def test_faulty_arrays_are_refused(tmp_path, arrays, change, fault):
    with pytest.raises(UserError, match=fault):
        CandidateFile(**{**arrays, **change})
    np.savez(tmp_path / "file.npz", digest=np.array(""), **{**arrays, **change})
    with pytest.raises(UserError, match=rf"candidate file .*file.npz: {fault}"):
        read_candidate_file(tmp_path / "file.npz")


class Evil:
    def __reduce__(self):
        return print, ("un-pickled",)


EVIL = dict.fromkeys(
    ["users", "n_events", "tokens", "offsets", "items", "is_positive", "digest"], np.array([Evil()], dtype=object)
)


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[: middle - 40] + bytes(40) + content[middle:]


def bare_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


DAMAGE = {
    "pickled": lambda path: np.savez(path, **EVIL),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "bare array": bare_array,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("candidates"),
    "fields missing": lambda path: np.savez(path, users=np.array(["a"])),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused_and_never_unpickled(tmp_path, damage, capsys):
    path = tmp_path / "file.npz"
    write_candidate_file(path, CandidateFile.from_rows(ROWS))
    damage(path)
    with pytest.raises(UserError, match=r"candidate file .*file.npz: cannot be read .*: make or copy it again"):
        read_candidate_file(path)
    assert capsys.readouterr().out == ""


def test_changed_candidates_are_refused(tmp_path, arrays):
    file = CandidateFile(**arrays)
    easier = {**arrays, "tokens": np.array(["x", "y", "w"])}
    np.savez(tmp_path / "file.npz", digest=np.array(file.digest), **easier)
    with pytest.raises(UserError, match=r"was changed since it was written: its rows have the hash .*, but it states "):
        read_candidate_file(tmp_path / "file.npz")
    # The remedy for what is meant to differ.
    write_candidate_file(tmp_path / "file.jsonl", CandidateFile(**easier))
    assert read_candidate_file(tmp_path / "file.jsonl").digest != file.digest


GARBAGE = {
    "{": "not JSON: ",
    '{"user": "a", "n_events": 1, "positives": ["x"]}': "must be an object with exactly the keys user, n_events",
    '{"user": "a", "n_events": 1, "positives": [], "negatives": [], "label": 1}': "must be an object with exactly",
    '["a", 1, ["x"], ["y"]]': "must be an object",
    "": "not JSON: ",
    '{"user": 7, "n_events": 1, "positives": ["x"], "negatives": []}': "user must be a string, got 7",
    '{"user": "a", "n_events": "1", "positives": ["x"], "negatives": []}': "n_events must be a whole .* >= 0, got '1'",
    '{"user": "a", "n_events": true, "positives": ["x"], "negatives": []}': "n_events must be .*, got True",
    '{"user": "a", "n_events": -2, "positives": ["x"], "negatives": []}': "n_events must be .*, got -2",
    '{"user": "a", "n_events": 1e3, "positives": ["x"], "negatives": []}': "n_events must be .*, got 1000.0",
    '{"user": "a", "n_events": 99999999999999999999, "positives": ["x"], "negatives": []}': "n_events must .* got 99",
    '{"user": "a", "n_events": 1, "positives": "x", "negatives": []}': "positives must be a list of strings, got 'x'",
    '{"user": "a", "n_events": 1, "positives": ["x"], "negatives": [3]}': r"negatives must be a list .* got \[3\]",
    "[" * 100_000: "not JSON: ",
}


@pytest.mark.parametrize(("line", "fault"), GARBAGE.items(), ids=range(len(GARBAGE)))
def test_a_line_that_is_no_row_is_told_by_its_number(tmp_path, line, fault):
    good = '{"user": "a", "n_events": 7, "positives": ["x"], "negatives": ["y"]}\n'
    (tmp_path / "file.jsonl").write_text(good + line + "\n" + good.replace("7", "8"))
    with pytest.raises(UserError, match=rf"candidate file .*file.jsonl: line 2: {fault}") as refused:
        read_candidate_file(tmp_path / "file.jsonl")
    assert len(refused.value.faults) == 1


def test_many_bad_lines_are_counted(tmp_path):
    (tmp_path / "file.jsonl").write_bytes(b"\xff\n" * 13)
    with pytest.raises(UserError) as refused:
        read_candidate_file(tmp_path / "file.jsonl")
    faults = refused.value.faults
    assert len(faults) == 11
    assert "line 10: not JSON" in faults[9]
    assert faults[10].endswith("3 more lines are malformed")


def test_a_file_without_a_line_is_refused(tmp_path):
    (tmp_path / "file.jsonl").write_text("")
    with pytest.raises(UserError, match=r"file.jsonl: it is empty: write one row per line"):
        read_candidate_file(tmp_path / "file.jsonl")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("missing.npz", "there is no candidate file .*missing.npz: give the path of a .npz or .jsonl file"),
        ("folder.npz", "there is no candidate file .*folder.npz"),
        ("file.csv", "candidate file .*file.csv has an unknown format: its name must end in .npz or .jsonl"),
    ],
)
def test_a_path_that_cannot_be_a_candidate_file_is_told(tmp_path, name, fault):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=fault):
        read_candidate_file(tmp_path / name)


def test_a_place_that_cannot_be_written_is_told_and_an_older_file_stays(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"candidate file .*new.npz cannot be written: .*; choose a writable folder"):
        write_candidate_file(tmp_path / "file" / "new.npz", CandidateFile.from_rows(ROWS))
    assert (tmp_path / "file").read_text() == "in the way"


def test_an_ordinary_set_has_the_hash_and_the_arrays_that_it_always_had(tmp_path):
    file = CandidateFile.from_rows(ROWS)
    assert file.digest == "0d5c19c593a4f37d679f833f97516256c8e27744ad20592d92ee7c014adc6a55"
    write_candidate_file(tmp_path / "file.npz", file)
    with np.load(tmp_path / "file.npz", allow_pickle=False) as archive:
        assert archive["tokens"].dtype == np.dtype("<U3")
        assert archive["users"].tolist() == ["ann", "ann", "bob"]


LONG = [
    *[(f"u{n}", n, [f"i{n}"], ["https://" + "ä" * 3000, "\ud800"]) for n in range(40)],
    ("ends with\0", 1, ["i1"], []),
]


@pytest.mark.parametrize("rows", [LONG, LONG[-1:], [("", 0, [""], [])]])
def test_ids_of_any_length_and_kind_come_back(tmp_path, rows):
    file = CandidateFile.from_rows(rows)
    write_candidate_file(tmp_path / "file.npz", file)
    again = read_candidate_file(tmp_path / "file.npz")
    assert (again.digest, [*again.rows()]) == (file.digest, [*file.rows()])
    assert sorted((user, n, sorted(some), sorted(others)) for user, n, some, others in again.rows()) == sorted(
        (user, n, sorted(some), sorted(others)) for user, n, some, others in rows
    )


def test_one_long_id_takes_its_own_room_alone(tmp_path):
    peaks = []
    for length in (10, 3_000):
        items = ["i" * length, *(f"i{n}" for n in range(2_000))]
        tracemalloc.start()
        file = CandidateFile.from_rows((f"u{n}", 1, [items[n]], [items[n + 1]]) for n in range(2_000))
        write_candidate_file(tmp_path / "file.npz", file)
        read_candidate_file(tmp_path / "file.npz")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("ends", [[3, 2, 9], [1, 2, 3], []])
def test_damaged_ends_of_ids_are_refused(tmp_path, arrays, ends):
    made = {
        **arrays,
        "tokens_utf8": np.frombuffer("xäöüz".encode(), dtype=np.uint8),
        "tokens_ends": np.array(ends, int),
    }
    made.pop("tokens")
    np.savez(tmp_path / "file.npz", digest=np.array(""), **made)
    with pytest.raises(UserError, match=r"file\.npz: cannot be read \(tokens_ends must rise"):
        read_candidate_file(tmp_path / "file.npz")
