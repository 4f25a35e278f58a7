"""The printed report."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError


def test_the_report_lists_counts_and_faults() -> None:
    report = Report("tiny: tiny.inter", {"users": 4_637, "events": 146_474})
    report.fault("a.tsv", 7, "not 2 columns", "line skipped")
    assert report.text() == (
        "tiny: tiny.inter\n"
        "  users         4,637\n"
        "  events      146,474\n"
        "malformed:\n"
        "  a.tsv: not 2 columns: 1 (line skipped); line 7"
    )


def test_a_clean_source_says_so() -> None:
    assert Report("tiny").text() == "tiny\nmalformed:\n  nothing"


@pytest.mark.parametrize(("n", "more"), [(10, ""), (12, ", ...")])
def test_ten_line_numbers_of_a_kind_are_shown_and_all_are_counted(n: int, more: str) -> None:
    report = Report("tiny")
    for line in range(1, n + 1):
        report.fault("a.tsv", line, "bad", "skipped")
    assert report.fault_text() == [f"a.tsv: bad: {n} (skipped); line 1, 2, 3, 4, 5, 6, 7, 8, 9, 10{more}"]
    assert report.is_cut == (n > 10)


def test_every_line_is_kept_once_however_often_it_has_a_fault() -> None:
    report = Report("tiny")
    for line in (3, 3, *range(4, 14)):
        report.fault("a.tsv", line, "bad", "skipped")
    report.fault("b.tsv", 1, "worse", "line skipped")
    assert report.is_cut
    assert report.fault_text()[0].startswith("a.tsv: bad: 12 (skipped); line 3, 4,")
    expected = [f"a.tsv\t{line}\tbad\tskipped" for line in range(3, 14)]
    assert list(report.fault_lines()) == ["file\tline\twrong\tdone", *expected, "b.tsv\t1\tworse\tline skipped"]


def read(n: int, n_lost: int, **options: float) -> Report:
    report = Report("tiny", **options)
    for line in range(1, n + 1):
        report.row("a.tsv", f"row {line}\n".encode())
        if line > n - n_lost:
            report.fault("a.tsv", line, "not 2 columns", "line skipped")
    return report


@pytest.mark.parametrize(
    ("n", "n_lost", "options"),
    [(20, 1, {}), (100, 5, {}), (3, 0, {}), (4, 2, {"max_lost": 0.5}), (4, 3, {"max_lost": 1})],
)
def test_one_row_in_twenty_may_be_lost_or_as_many_as_asked_for(n: int, n_lost: int, options: dict[str, float]) -> None:
    read(n, n_lost, **options).check_lost(Path("raw/a.tsv"))


@pytest.mark.parametrize(
    ("n", "n_lost", "options"), [(19, 1, {}), (100, 6, {}), (20, 1, {"max_lost": 0}), (4, 3, {"max_lost": 0.5})]
)
def test_more_is_refused_with_the_first_line_that_is_lost(n: int, n_lost: int, options: dict[str, float]) -> None:
    line = n - n_lost + 1
    expected = (
        rf"raw/a\.tsv: {n_lost} of {n} rows are malformed and would be lost, more than --max_lost=.* of them\. The"
        rf" first is line {line}, not 2 columns: 'row {line}'\. Mend the file, or accept the loss"
    )
    with pytest.raises(UserError, match=expected):
        read(n, n_lost, **options).check_lost(Path("raw/a.tsv"))


def test_nothing_left_and_an_empty_file_are_refused_whatever_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"4 of 4 rows are malformed .*'row 1'\. Mend the file$"):
        read(4, 4, max_lost=1).check_lost(Path("raw/a.tsv"))
    with pytest.raises(UserError, match=r"raw/a\.tsv has no row: it is empty"):
        read(0, 0, max_lost=1).check_lost(Path("raw/a.tsv"))


def test_what_is_no_loss_does_not_count() -> None:
    report = read(3, 0)
    report.fault("a.tsv", 2, "seen before", "row skipped, first kept", lost=None)
    report.check_lost(Path("raw/a.tsv"))


def test_the_first_lost_line_is_shown_by_its_beginning_without_what_a_terminal_would_obey() -> None:
    report = Report("tiny")
    report.row("a.tsv", b"\x1b[2J caf\xe9 " + b"x" * 1000 + b"\n")
    report.fault("a.tsv", 1, "bad", "line skipped")
    with pytest.raises(UserError, match=r"line 1, bad: '\\x1b\[2J caf\\xe9 x{70}'\."):
        report.check_lost(Path("a.tsv"))
