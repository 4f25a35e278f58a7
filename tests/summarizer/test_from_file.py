from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.summarizer.from_file import FORM, FileSummaries, read_summaries, resolve, write_summaries

LINES = """\
{"user_id": "a", "n_events": 4, "summary": "four"}
{"user_id": "a", "n_events": 2, "summary": "two"}
{"user_id": 196, "n_events": 3, "summary": "number"}
{"user_id": "b", "n_events": 9, "summary": "nine"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "summaries.jsonl"


def read(path: Path, text: str | bytes) -> FileSummaries:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_summaries(path)


def faults(path: Path, text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(UserError) as raised:
        read(path, text)
    return tuple(fault.replace(str(path), "FILE") for fault in raised.value.faults)


def test_a_history_takes_the_summary_of_just_its_events_or_the_latest_earlier_one(path: Path) -> None:
    summaries = read(path, LINES)
    two, four = ("two", 2), ("four", 4)
    assert [summaries.find("a", n) for n in (1, 2, 3, 4, 5, 99)] == [None, two, two, four, four, four]
    assert len(summaries) == 4


def test_an_integer_names_the_same_user_as_its_digits(path: Path) -> None:
    assert read(path, LINES).find("196", 3) == ("number", 3)


def test_a_user_who_is_not_in_the_file_has_no_summary(path: Path) -> None:
    assert read(path, LINES).find("c", 3) is None


def test_no_summary_of_more_events_than_the_history_has_is_ever_used(path: Path) -> None:
    write_summaries(path, [("u", n, f"of {n}") for n in (3, 5, 6, 11)])
    summaries = read_summaries(path)
    for n_events in range(1, 15):
        found = summaries.find("u", n_events)
        assert found is None if n_events < 3 else found is not None and found[1] <= n_events


def test_every_history_gets_a_text_and_is_counted_once(path: Path) -> None:
    histories = [(10, "a", 4), (11, "a", 3), (12, "a", 1), (13, "b", 8), (14, "b", 2), (15, "c", 5), (16, "c", 6)]
    texts, counts = resolve(read(path, LINES), iter(histories))
    assert texts == {10: "four", 11: "two", 12: "", 13: "", 14: "", 15: "", 16: ""}
    assert counts == {"exact": 1, "earlier": 1, "none": 5, "only_later": 3, "unused": 2, "users_without": 1}


def test_a_summary_that_serves_several_histories_is_used_once(path: Path) -> None:
    texts, counts = resolve(read(path, LINES), [(1, "a", 4), (2, "a", 5), (3, "a", 4)])
    assert texts == {1: "four", 2: "four", 3: "four"}
    assert (counts["exact"], counts["earlier"], counts["unused"]) == (2, 1, 3)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + LINES.encode(),
        LINES.replace("\n", "\r\n"),
        "\n  \n" + LINES.replace("\n", "\n\n"),
        LINES.rstrip(),
        LINES.replace("}", ', "model": {"name": "x"}, "n": [1]}'),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no last newline", "more fields"],
)
def test_files_of_other_habits_say_the_same(path: Path, text: str | bytes) -> None:
    other = read(path, text)
    found = [other.find(user, n) for user, n in (("a", 2), ("a", 4), ("196", 3), ("b", 9))]
    assert found == [("two", 2), ("four", 4), ("number", 3), ("nine", 9)]
    assert len(other) == 4


def test_a_summary_becomes_one_line(path: Path) -> None:
    line = json.dumps({"user_id": "a", "n_events": 1, "summary": " - noir\n- \u2028 Ünïcode\t新闻 \x00"})
    assert read(path, line).find("a", 1) == ("- noir - Ünïcode 新闻", 1)


def test_lines_that_say_the_same_twice_and_empty_texts_are_counted(path: Path) -> None:
    again = '{"user_id": "a", "n_events": 2, "summary": "two "}\n'
    empty = '{"user_id": "z", "n_events": 1, "summary": " "}\n'
    summaries = read(path, LINES + again + again + empty)
    assert (len(summaries), summaries.n_identical, summaries.n_empty) == (5, 2, 1)
    assert summaries.find("z", 1) == ("", 1)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("likes noir", f"the line is not JSON (Expecting value); write {FORM}"),
        ("[" * 100_000, "the line is not JSON ("),
        ('"likes noir"', f'the line must be a JSON object, got "likes noir"; write {FORM}'),
        ("[1]", f"the line must be a JSON object, got [1]; write {FORM}"),
        ('{"user": "a", "n_events": 1}', f"the line has no user_id, summary; write {FORM}"),
        ('{"user_id": true, "n_events": 1, "summary": ""}', "user_id must be a string or an integer, got true"),
        ('{"user_id": 1.5, "n_events": 1, "summary": ""}', "user_id must be a string or an integer, got 1.5"),
        ('{"user_id": "a", "n_events": true, "summary": ""}', "n_events must be an integer >= 1, got true"),
        ('{"user_id": "a", "n_events": 0, "summary": ""}', "n_events must be an integer >= 1, got 0"),
        ('{"user_id": "a", "n_events": "3", "summary": ""}', 'n_events must be an integer >= 1, got "3"'),
        ('{"user_id": "a", "n_events": 3.0, "summary": ""}', "n_events must be an integer >= 1, got 3.0"),
        ('{"user_id": "a", "n_events": 3, "summary": null}', "summary must be a string, got null"),
        ('{"user_id": "a", "n_events": 3, "summary": "\\ud83d"}', "the line has half of a character ('\\ud83d')"),
        (b'{"user_id": "J\xf6rg", "n_events": 3, "summary": ""}', "the line is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_faulty_line_is_named_with_what_is_accepted(path: Path, line: str | bytes, fault: str) -> None:
    line = line.encode() if isinstance(line, str) else line
    (found,) = faults(path, LINES.encode() + line + b"\n")
    assert found.startswith(f"FILE, line 5: {fault}")


def test_the_form_that_faults_show_is_accepted(path: Path) -> None:
    assert read(path, FORM).find("196", 25) == ("Likes film noir.", 25)


def test_two_texts_for_the_same_events_are_a_fault(path: Path) -> None:
    other = '{"user_id": "a", "n_events": 2, "summary": "another"}\n'
    assert faults(path, LINES + other) == (
        'FILE, line 5: differs from the summary of line 2 for user_id "a" with n_events 2; keep one of them',
    )


def test_the_first_ten_faults_come_at_once_in_the_order_of_lines(path: Path) -> None:
    other = '{"user_id": "a", "n_events": 2, "summary": "another"}\n'
    found = faults(path, "x\n" + LINES + other + "x\n" * 12)
    assert [fault.split(":")[0] for fault in found[:-1]] == [
        f"FILE, line {n}" for n in (1, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    ]
    assert found[-1] == "and 4 more faulty lines"


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_any_summary_is_a_fault(path: Path, text: str) -> None:
    assert faults(path, text) == (f"the file FILE holds no summary: write one line {FORM} for each summary",)


def test_a_file_that_is_not_there_or_a_folder_is_a_fault(path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\)"):
        read_summaries(path)
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_summaries(path.parent)


def test_what_is_written_is_read_back(path: Path) -> None:
    rows = [("a", 4, 'says "four"; 新闻 \\ é'), ("a", 2, "two"), ("196", 3, "👍🏽"), ("ü", 1, "")]
    write_summaries(path, rows)
    summaries = read_summaries(path)
    assert [(user, n, text) for user, n, _ in rows for text, _ in [summaries.find(user, n) or ("missing", 0)]] == rows
    first = path.read_bytes()
    write_summaries(path, rows)
    assert path.read_bytes() == first
    assert first.decode().splitlines()[1] == '{"user_id": "a", "n_events": 2, "summary": "two"}'


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    def rows() -> Iterator[tuple[str, int, str]]:
        yield "a", 1, "new"
        raise KeyboardInterrupt

    write_summaries(path, [("a", 1, "old")])
    with pytest.raises(KeyboardInterrupt):
        write_summaries(path, rows())
    assert read_summaries(path).find("a", 1) == ("old", 1)
    assert os.listdir(path.parent) == ["summaries.jsonl"]


def test_a_file_that_cannot_be_written_is_the_users_matter(path: Path) -> None:
    path.write_text("a file, not a folder")
    with pytest.raises(UserError, match="summaries cannot be written to"):
        write_summaries(path / "x.jsonl", [("a", 1, "text")])
    folder = path.parent / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="choose another file"):
        write_summaries(folder, [("a", 1, "text")])
    assert sorted(os.listdir(path.parent)) == ["folder", "summaries.jsonl"]
