"""Events whose items have no row: how many are too many, and what is shown of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from recbole_llmtrsr.data.prepare.matching import check_match
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

EVENTS, ITEMS = Path("raw/events.csv"), Path("raw/items.csv")


@pytest.mark.parametrize(
    ("used", "known", "expected"),
    [
        ({"1.0", "2.0"}, {"1", "2"}, "such as '1.0', where items.csv has '1' (a number became a float)"),
        ({"1"}, {"1.0"}, "such as '1', where items.csv has '1.0' (a number became a float)"),
        ({"108775015"}, {"0108775015"}, "such as '108775015', where items.csv has '0108775015' (leading zeros"),
        ({"i1"}, {"I1", "I2"}, "such as 'i1', where items.csv has 'I1' (upper and lower case)"),
        ({"i1 "}, {"i1"}, "such as 'i1 ', where items.csv has 'i1' (blanks at an end)"),
        ({"b", "a"}, {"d", "c"}, "such as 'a', where items.csv has 'c': write the ids alike"),
        ({"b", "a"}, set(), "such as 'a': write the ids alike"),
    ],
)
def test_one_id_of_each_file_is_shown_and_the_likely_cause(used: set[str], known: set[str], expected: str) -> None:
    with pytest.raises(UserError) as fault:
        check_match(EVENTS, ITEMS, 9, 9, used, known, Report("tiny"))
    assert expected in str(fault.value)
    assert "9 of 9 events in events.csv are of items that have no row in items.csv" in str(fault.value)


def test_more_than_half_is_refused_unless_asked_for_and_all_always() -> None:
    with pytest.raises(UserError, match="6 of 10 events .* accept up to a share of them with --max_lost, above 0.5"):
        check_match(EVENTS, ITEMS, 10, 6, {"a", "b"}, {"b"}, Report("tiny"))
    check_match(EVENTS, ITEMS, 10, 6, {"a", "b"}, {"b"}, Report("tiny", max_lost=0.6))
    with pytest.raises(UserError, match="10 of 10 events"):
        check_match(EVENTS, ITEMS, 10, 10, {"a"}, {"b"}, Report("tiny", max_lost=1))


def test_up_to_half_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_match(EVENTS, ITEMS, 10, 0, {"b"}, {"b"}, Report("tiny"))
        assert caplog.text == ""
        check_match(EVENTS, ITEMS, 10, 5, {"a", "b"}, {"b"}, Report("tiny"))
    assert "5 of 10 events in events.csv are of items that have no row in items.csv, such as 'a'" in caplog.text
