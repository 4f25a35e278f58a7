from __future__ import annotations

from dataclasses import replace

from recbole_llmtrsr.report.costs import costs


def test_costs_are_means_over_seeds_with_their_deviation(comparison):
    assert costs(comparison) == {
        "epochs": ["4", "4", "-"],
        "training (s)": ["200 ±141", "0", "-"],
        "s per 1,000 users": ["2.0", "2.0", "-"],
        "peak memory (GiB)": ["1.50", "1.50", "-"],
        "weights": ["1,000", "1,000", "-"],
        "trained weights": ["10", "10", "-"],
    }


def test_what_nobody_knows_is_no_column(comparison):
    assert costs(replace(comparison, rows=comparison.rows[2:])) == {}
