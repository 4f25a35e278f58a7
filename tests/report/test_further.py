"""A report points to the reports of the same models among other candidates."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate
from recbole_llmtrsr.evaluation.result import write_json
from recbole_llmtrsr.report.further import columns, further_tests
from recbole_llmtrsr.report.page import page, write_report


@pytest.fixture
def among_popular(comparison) -> Comparison:
    """The same runs in mode pop20, worse and in the opposite order."""
    rows = tuple(
        replace(
            row,
            metrics={name: Estimate(e.mean / 10, e.low / 10, e.high / 10, e.spread) for name, e in row.metrics.items()},
            results=tuple({**one, "n_test": 77, "candidates": {"test": {"mode": "pop20"}}} for one in row.results),
        )
        for row in reversed(comparison.rows)
    )
    return replace(comparison, rows=rows, tests=(), random={"mrr@2": 0.125})


def test_the_page_shows_both_and_links_to_the_other(comparison, among_popular, tmp_path):
    write_json(tmp_path / "also" / "pop20" / "comparison.json", asdict(among_popular))
    write_report(tmp_path / "also" / "pop20", among_popular)
    made = write_report(tmp_path, comparison).read_text(encoding="utf-8")
    assert ">Other candidate sets</h2>" in made
    assert made.count('href="also') == 1
    assert '<a href="also/pop20/report.html">pop20</a><small>77 targets</small>' in made
    assert "<dt>pop20</dt><dd>20 items drawn in proportion to their number of events." in made
    other = (tmp_path / "also" / "pop20" / "report.html").read_text(encoding="utf-8")
    assert "Other candidate sets" not in other


def test_columns_have_the_rows_in_the_order_of_the_page(comparison, among_popular, tmp_path):
    write_json(tmp_path / "also" / "pop20" / "comparison.json", asdict(among_popular))
    here, other = columns(comparison, further_tests(tmp_path, comparison, "report.html"), "mrr@2")
    assert (here.mode, here.link, here.n) == ("uni2", "", "1,200")
    assert [(cell.mean, cell.interval, cell.mark) for cell in here.cells] == [
        ("0.6000", "[.550, .650]", "best"),
        ("0.5800", "[.530, .630]", "second"),
        ("-", "", ""),
        ("0.5000", "", ""),
    ]
    assert (other.mode, other.link, other.n) == ("pop20", "", "77")  # no page yet
    assert [cell.mean for cell in other.cells] == ["0.0600", "0.0580", "-", "0.1250"]


def test_links_lead_to_folders_of_any_name(comparison, among_popular, tmp_path):
    folder = tmp_path / "also" / "file-größe.npz"
    write_json(folder / "comparison.json", asdict(among_popular))
    (folder / "report.html").touch()
    [found] = further_tests(tmp_path, comparison, "report.html")
    assert found.link == "also/file-gr%C3%B6%C3%9Fe.npz/report.html"


def test_comparisons_of_other_runs_are_left_alone(comparison, among_popular, tmp_path):
    first, *others = among_popular.rows
    trained_otherwise = tuple({**result, "options": {"learning_rate": 1}} for result in first.results)
    for name, changed in {
        "rows": replace(among_popular, rows=tuple(others)),
        "seeds": replace(among_popular, rows=(replace(first, seeds=(8,)), *others)),
        "options": replace(among_popular, rows=(replace(first, results=trained_otherwise), *others)),
        "data": replace(among_popular, dataset="large"),
    }.items():
        write_json(tmp_path / "also" / name / "comparison.json", asdict(changed))
    assert further_tests(tmp_path, comparison, "report.html") == []
    assert write_report(tmp_path, comparison).read_text(encoding="utf-8") == page(comparison)


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": []}'])
def test_a_file_that_is_no_comparison_is_told(comparison, tmp_path, content):
    path = tmp_path / "also" / "pop20" / "comparison.json"
    write_json(path, {})
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"also.pop20.comparison[.]json cannot be read as a comparison .*: remove it"):
        write_report(tmp_path, comparison)
