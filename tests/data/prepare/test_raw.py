"""Raw lines: what ends them, what is malformed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_llmtrsr.data.prepare.raw import read_columns, read_csv, read_json_lines
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a raw file."""

    def write(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


@pytest.fixture
def report() -> Report:
    return Report("", max_lost=1)


def test_only_line_feeds_end_lines_and_only_tabs_end_columns(write: Write) -> None:
    path = write("raw.tsv", 'a\u2028b\tc\x85\n"d\te\x0b\x1c"\r\nf\rg\th')
    assert list(read_columns(path, 2, Report("", max_lost=1))) == [
        (1, ["a\u2028b", "c\x85"]),
        (2, ['"d', 'e\x0b\x1c"']),
        (3, ["f\rg", "h"]),
    ]


def test_lines_that_are_not_utf8_or_of_another_width_are_reported(write: Write, report: Report) -> None:
    path = write("raw.tsv", b"a\tb\n\xff\tb\na\na\tb\tc\n\xe9\tb\nc\td\n")
    assert [number for number, _ in read_columns(path, 2, report)] == [1, 6]
    assert report.fault_text() == [
        "raw.tsv: not UTF-8, name another --encoding: 2 (line skipped); line 2, 5",
        "raw.tsv: not 2 columns: 2 (line skipped); line 3, 4",
    ]


def test_reading_prints_nothing_where_no_terminal_shows_its_progress(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("raw.tsv", b"a\tb\n")
    list(read_columns(path, 2, Report("", max_lost=1)))
    assert capsys.readouterr() == ("", "")


def test_lines_of_another_encoding_are_read_where_a_fallback_is_named(write: Write, report: Report) -> None:
    path = write("movies.dat", "1::Les Misérables".encode("latin-1") + b"\n" + "2::Amélie::x\n2::Amélie\n".encode())
    rows = list(read_columns(path, 2, report, "::", fallback="latin-1"))
    assert rows == [(1, ["1", "Les Misérables"]), (3, ["2", "Amélie"])]
    assert report.fault_text() == ["movies.dat: not 2 columns: 1 (line skipped); line 2"]


def test_csv_fields_may_be_quoted_and_hold_line_ends(write: Write, report: Report) -> None:
    path = write("a.csv", b'\xef\xbb\xbfid,text,more\r\n1,"a ""b"", c\r\nd",x\r\n2,plain \'q\',y\r\n')
    rows = list(read_csv(path, ["text", "id"], report, "mend it"))
    assert rows == [(2, ['a "b", c\r\nd', "1"]), (4, ["plain 'q'", "2"])]
    assert report.faults == {}


def test_malformed_csv_rows_are_reported_by_their_first_line_and_the_rest_is_read(write: Write, report: Report) -> None:
    path = write("a.csv", b'id,text\n1,a\n2\n\n"x\ny"z,4\n5,b\n6,\xff\n7,c\rd\n8,e\n')
    assert list(read_csv(path, ["id", "text"], report, "")) == [(2, ["1", "a"]), (7, ["5", "b"]), (10, ["8", "e"])]
    texts = [
        text.replace(" - do you need to open the file in universal-newline mode?", "") for text in report.fault_text()
    ]
    assert texts == [
        "a.csv: not 2 columns: 2 (line skipped); line 3, 4",
        "a.csv: broken quoting, line end or length (',' expected after '\"'): 2 (line skipped); line 5, 6",
        "a.csv: not UTF-8, name another --encoding: 1 (line skipped); line 8",
        "a.csv: broken quoting, line end or length (new-line character seen in unquoted field): 1 (line skipped);"
        " line 9",
    ]


def test_every_line_that_a_stray_quote_takes_is_counted(write: Write, report: Report) -> None:
    path = write("a.csv", 'id,text\n1,"stray\n2,b\n3,c\n4,"d"\n5,e\n6,"stray\n7,"\n8,"g",\n9,h\n')
    assert [number for number, _ in read_csv(path, ["id"], report, "")] == [6, 7, 10]
    assert report.fault_text() == [
        "a.csv: broken quoting, line end or length (',' expected after '\"'): 4 (line skipped); line 2, 3, 4, 5",
        "a.csv: not 2 columns: 1 (line skipped); line 9",
    ]


def test_a_row_of_several_lines_with_too_many_columns_counts_them_all(write: Write, report: Report) -> None:
    path = write("a.csv", 'id,text\n1,"a\nb\nc",x\n2,d\n')
    assert list(read_csv(path, ["id", "text"], report, "")) == [(5, ["2", "d"])]
    assert report.fault_text() == ["a.csv: not 2 columns: 3 (line skipped); line 2, 3, 4"]


@pytest.mark.parametrize(("n_more", "n_lines"), [(0, 1), (3, 4), (150_000, 149_797)])
def test_a_quote_that_is_never_closed_is_an_error_that_names_its_line(
    tmp_path: Path, n_more: int, n_lines: int
) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,a\n2,"open\n' + "3,good\n" * n_more)
    with pytest.raises(
        UserError, match=rf"in the row at line 3 is not closed within {n_lines:,} lines .*: close it or"
    ):
        list(read_csv(path, ["id", "text"], Report("", max_lost=1), ""))
    for mended, text in (('"open"', "open"), ('"""open"', '"open')):
        path.write_text("id,text\n1,a\n2," + mended + "\n" + "3,good\n" * n_more)
        rows = list(read_csv(path, ["text"], Report("", max_lost=1), ""))
        assert len(rows) == 2 + n_more
        assert rows[1] == (3, [text])


def test_a_field_beyond_all_texts_is_reported_and_the_rest_is_read(write: Write, report: Report) -> None:
    path = write("a.csv", f"id,text\n1,{'a' * 2**20}\n2,{'b' * 2**21}\n3,c\n")
    assert [number for number, _ in read_csv(path, ["id", "text"], report, "")] == [2, 4]
    assert report.fault_text() == [
        "a.csv: broken quoting, line end or length (field larger than field limit (1048576)): 1 (line skipped); line 3"
    ]


@pytest.mark.parametrize(
    ("header", "wanted"), [("id,titel", "title"), ("id,title,title", "title"), ("", "id and title")]
)
def test_a_csv_file_without_a_column_once_is_an_error_and_names_its_own(write: Write, header: str, wanted: str) -> None:
    path = write("a.csv", header + "\n1,a\n")
    with pytest.raises(UserError, match=f"column {wanted} once, it has {header.replace(',', ', ') or 'none'}: mend it"):
        list(read_csv(path, ["id", "title"], Report("", max_lost=1), "mend it"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_told(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffa,b\n1,2\n".encode(encoding))
    with pytest.raises(UserError, match=r"a\.csv is encoded as UTF-16: save it as UTF-8"):
        list(read_csv(tmp_path / "a.csv", ["a"], Report("tiny"), "mend it"))


def test_a_packed_file_is_read_like_the_plain_one(tmp_path: Path) -> None:
    text = "".join(f"{i}\ta\u2028{i}\n" for i in range(3000))
    (tmp_path / "plain.tsv").write_text(text)
    (tmp_path / "packed.tsv.gz").write_bytes(gzip.compress(text.encode()))
    plain = list(read_columns(tmp_path / "plain.tsv", 2, Report("", max_lost=1)))
    assert len(plain) == 3000
    assert list(read_columns(tmp_path / "packed.tsv.gz", 2, Report("", max_lost=1))) == plain


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"a\n" * 9999, mtime=0)[:-20], b"not gzip", gzip.compress(b"ab", mtime=0)[:-8] + b"12345678"],
)
def test_a_damaged_packed_file_is_an_error_and_not_a_short_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*a\.tsv\.gz .* download it again"):
        list(read_columns(tmp_path / "a.tsv.gz", 1, Report("", max_lost=1)))


def test_json_lines_that_are_no_object_are_reported(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        '{"a": "\\ud83d\\ude00"}',
        "[1]",
        "{'a': 1, 'b'}",
        "",
        '{"a": "\\ud83d"}',
        '{"a": ' + "[" * 100_000,
        '{"a": NaN}',
    ]
    path.write_bytes("\n".join(lines).encode() + b'\n{"a": "\xff"}\n{}')
    found = list(read_json_lines(path, report))
    assert [number for number, _ in found] == [1, 7, 9]
    assert found[0][1] == {"a": "😀"}
    assert report.fault_text() == [
        "a.jsonl: not a JSON object: 5 (line skipped); line 2, 3, 4, 5, 6",
        "a.jsonl: not UTF-8, name another --encoding: 1 (line skipped); line 8",
    ]


def test_lines_that_are_python_dictionaries_are_read_and_counted(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "steam.json"
    lines = [
        """{u'user': u'Chaos Syren', 'n': (1, None, True), "it's": 'a\\tb\\u00e9\\q'}""",
        '{"user": "json"}',
        "{'user': 'b'}",
        *("{'user': b'bytes'}", "{'user': '\\ud83d'}", "{'user': {1, 2}}", "{'user': open('x')}", "{" * 9000, "{'a'"),
        "{" + "'a': " + "(" * 90_000,
        "{'a': '" + "x" * 2**20 + "'}",
    ]
    path.write_text("\n".join(lines))
    assert list(read_json_lines(path, report)) == [
        (1, {"user": "Chaos Syren", "n": [1, None, True], "it's": "a\tbé\\q"}),
        (2, {"user": "json"}),
        (3, {"user": "b"}),
    ]
    assert report.notes == {"steam.json: lines that are Python dictionaries, not JSON (read)": 2}
    assert report.fault_text() == [
        "steam.json: not a JSON object: 8 (line skipped); line 4, 5, 6, 7, 8, 9, 10, 11",
    ]


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '\ufeff [\n {\n  "a": 1\n }\n]\n'])
def test_a_json_array_is_refused_as_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    expected = r"a\.json is a JSON array \(it begins with '\['\): save one object per line, as jq -c '\.\[\]' a\.json"
    with pytest.raises(UserError, match=expected):
        list(read_json_lines(tmp_path / "a.json", Report("")))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "is packed with gzip: add .gz to its name"),
        (b"PK\x03\x04\x14\x00", "is a zip archive or a spreadsheet: unpack it"),
    ],
)
def test_a_packed_file_without_its_suffix_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=told):
        list(read_csv(tmp_path / "a.csv", ["a"], Report("tiny"), "mend it"))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_in_the_header_is_told(tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.csv").write_text(f"id{separator}title\n1{separator}a\n")
    with pytest.raises(UserError, match=r"id and title once, it has id.title, which '.+' seems to separate: mend it"):
        list(read_csv(tmp_path / "a.csv", ["id", "title"], Report(""), "mend it"))
