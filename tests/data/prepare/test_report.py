"""The printed report."""

from __future__ import annotations

from recbole_llmtrsr.data.prepare.report import Report


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


def test_ten_line_numbers_of_a_kind_are_shown_and_all_are_counted() -> None:
    report = Report("tiny")
    for line in range(1, 13):
        report.fault("a.tsv", line, "bad", "skipped")
    assert report.fault_text() == ["a.tsv: bad: 12 (skipped); line 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..."]


def test_every_line_is_kept_once_however_often_it_has_a_fault() -> None:
    report = Report("tiny")
    for line in (3, 3, *range(4, 14)):
        report.fault("a.tsv", line, "bad", "skipped")
    report.fault("b.tsv", 1, "worse", "line skipped")
    assert report.is_cut
    assert report.fault_text()[0].startswith("a.tsv: bad: 12 (skipped); line 3, 4,")
    expected = [f"a.tsv\t{line}\tbad\tskipped" for line in range(3, 14)]
    assert list(report.fault_lines()) == ["file\tline\twrong\tdone", *expected, "b.tsv\t1\tworse\tline skipped"]


def test_exactly_ten_lines_have_no_ellipsis() -> None:
    report = Report("tiny")
    for line in range(1, 11):
        report.fault("a.tsv", line, "bad", "skipped")
    assert report.fault_text() == ["a.tsv: bad: 10 (skipped); line 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"]
    assert not report.is_cut
