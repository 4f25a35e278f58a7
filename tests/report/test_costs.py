from __future__ import annotations

from dataclasses import replace

from recbole_llmtrsr.evaluation.comparison.tables import comparison_table
from recbole_llmtrsr.report.costs import costs


def test_costs_are_means_over_seeds_with_their_deviation(comparison):
    assert costs(comparison) == {
        "epochs": ["4", "4", "-"],
        "training (s)": ["200 ±141", "0", "-"],
        "s per 1,000 users": ["2.0", "2.0", "-"],
        "weights": ["1,000", "1,000", "-"],
        "trained weights": ["10", "10", "-"],
        "peak memory (GiB; CPU: whole process)": ["1.50", "1.50", "-"],
    }


def test_what_nobody_knows_is_no_column(comparison):
    assert costs(replace(comparison, rows=comparison.rows[2:])) == {}


def test_peak_memory_is_the_most_of_all_stages_and_seeds_as_in_the_other_tables(comparison):
    first, second = comparison.rows[0].results
    grown = {**second, "cost": {**second["cost"], "evaluation": {"peak_memory_gib": 7.25}, "validation": None}}
    row = replace(comparison.rows[0], results=(first, grown))
    of_seeds = replace(comparison, rows=(row, *comparison.rows[1:]))
    assert costs(of_seeds)["peak memory (GiB; CPU: whole process)"] == ["7.25", "1.50", "-"]
    header, _, line = comparison_table(of_seeds).splitlines()[2:5]
    names, values = ([cell.strip() for cell in cells.split("|")] for cells in (header, line))
    assert dict(zip(names, values))["peak memory (GiB; CPU: whole process)"] == "7.25"
