"""Raw tab-separated lines: what ends a line, what is malformed."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmtrsr.data.prepare.raw import read_tsv
from recbole_llmtrsr.data.prepare.report import Report


def test_only_line_feeds_end_lines_and_only_tabs_end_columns(tmp_path: Path) -> None:
    path = tmp_path / "raw.tsv"
    path.write_bytes('a\u2028b\tc\x85\n"d\te\x0b\x1c"\r\nf\rg\th'.encode())
    assert list(read_tsv(path, 2, Report(""))) == [
        (1, ["a\u2028b", "c\x85"]),
        (2, ['"d', 'e\x0b\x1c"']),
        (3, ["f\rg", "h"]),
    ]


def test_lines_that_are_not_utf8_or_of_another_width_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "raw.tsv"
    path.write_bytes(b"a\tb\n\xff\tb\na\na\tb\tc\n\xe9\tb\nc\td\n")
    report = Report("")
    assert [number for number, _ in read_tsv(path, 2, report)] == [1, 6]
    assert report.fault_text() == [
        "raw.tsv: not UTF-8: 2 (line skipped); line 2, 5",
        "raw.tsv: not 2 columns: 2 (line skipped); line 3, 4",
    ]


def test_the_progress_bar_is_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "raw.tsv"
    path.write_bytes(b"a\tb\n")
    list(read_tsv(path, 2, Report("")))
    output = capsys.readouterr()
    assert output.out == ""
    assert "raw.tsv: 100%" in output.err
