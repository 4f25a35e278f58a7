from __future__ import annotations

import pytest

from recbole_llmtrsr.report.axis import Axis, category_axis, linear_axis, log_axis


def texts(axis: Axis) -> list[str]:
    return [tick.lines[0] for tick in axis.ticks]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1429, 0.8845], ["0.2", "0.4", "0.6", "0.8"]),
        ([-0.2, 0.01], ["-0.2", "-0.15", "-0.1", "-0.05", "0"]),
        ([0.5], ["0.46", "0.48", "0.5", "0.52", "0.54"]),
        ([0.0, 0.0], ["-0.1", "-0.05", "0", "0.05", "0.1"]),
        ([0.0, 1.0], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_ticks_of_a_linear_axis_are_round_numbers_within_it(values, expected):
    axis = linear_axis("recall", values)
    assert texts(axis) == expected
    assert axis.low < min(values)
    assert axis.high > max(values)
    assert all(axis.low <= tick.at <= axis.high for tick in axis.ticks)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.7, 1300], ["0.1", "1", "10", "100", "1,000", "10,000"]),
        ([3, 14], ["2", "5", "10", "20"]),
        ([10, 10], ["10", "20"]),
        ([0.001, 0.001], ["0.001", "0.002"]),
        ([0.001, 90_000], ["0.001", "0.1", "10", "1,000", "100,000"]),
    ],
)
def test_a_logarithmic_axis_holds_its_values_between_round_numbers(values, expected):
    axis = log_axis("seconds", values)
    assert texts(axis) == expected
    assert axis.low <= min(values)
    assert axis.high >= max(values)
    assert len(axis.ticks) <= 7


def test_places_run_from_0_to_1_by_difference_or_by_ratio():
    assert Axis("", 2.0, 6.0, ()).place(3.0) == 0.25
    assert Axis("", 1.0, 100.0, (), is_log=True).place(10.0) == pytest.approx(0.5)


def test_categories_lie_in_the_middle_of_equal_parts():
    axis = category_axis("", [("cold",), ("1-4", "events")])
    assert [axis.place(tick.at) for tick in axis.ticks] == [0.25, 0.75]
    assert axis.ticks[1].lines == ("1-4", "events")
