from __future__ import annotations

from dataclasses import replace

from recbole_llmtrsr.evaluation.comparison.comparison import Estimate
from recbole_llmtrsr.evaluation.comparison.tables import comparison_table
from recbole_llmtrsr.report.table import Cell, costs, find_test, group_tables, main_lines

METRICS = ["recall@1", "recall@2", "mrr@2"]


def test_best_and_second_are_marked_and_equal_ones_share_the_mark(comparison):
    lines = main_lines(comparison, METRICS)
    assert [[cell.mark for cell in line.cells] for line in lines] == [
        ["best", "best", "best"],
        ["best", "second", "second"],
        ["second", "", ""],
        ["", "", ""],
    ]


def test_cells_have_the_digits_of_the_tables_in_markdown(comparison):
    lines = main_lines(comparison, METRICS)
    assert lines[0].cells[1] == Cell("0.7500", "[.700, .800]", "±.010", "best")
    assert lines[2].cells == (Cell("0.2000", "[.100, .300]", "", "second"), Cell("-"), Cell("-"))
    assert lines[3].label == "random ranking"
    assert [cell.mean for cell in lines[3].cells] == ["0.3333", "0.6667", "0.5000"]


def test_what_a_test_does_not_tell_from_the_best_is_said(comparison):
    close = [[cell.is_close for cell in line.cells] for line in main_lines(comparison, METRICS)]
    assert close == [[False] * 3, [False, False, True], [False] * 3, [False] * 3]


def test_where_less_is_better_the_least_is_best(comparison):
    rows = tuple(
        replace(row, metrics={"giniindex@2": Estimate(mean, float("nan"), float("nan"), None)})
        for row, mean in zip(comparison.rows, (0.9, 0.2, 0.5))
    )
    lines = main_lines(replace(comparison, rows=rows, random=None), ["giniindex@2"])
    assert [line.cells[0].mark for line in lines] == ["", "best", "second"]
    assert lines[0].cells[0] == Cell("0.9000")


def test_one_row_alone_is_not_called_best(comparison):
    lines = main_lines(replace(comparison, rows=comparison.rows[:1]), METRICS)
    assert [cell.mark for cell in lines[0].cells] == ["", "", ""]


def test_groups_are_marked_apart_and_keep_their_sizes(comparison):
    tables = group_tables(comparison, ["mrr@2"])
    assert list(tables) == ["history length", "target popularity", "prompt"]
    assert list(tables["target popularity"]) == ["cold", "1-4 events"]
    told = {
        name: [(line.label, line.n, line.cells[0].mean, line.cells[0].mark) for line in lines]
        for name, lines in tables["target popularity"].items()
    }
    assert told == {
        "cold": [
            ("LLMTRSR@recurrent", 200, "0.5000", "best"),
            ("Pop", 200, "0.0500", "second"),
            ("random ranking", 200, "0.2500", ""),
        ],
        "1-4 events": [("LLMTRSR@recurrent", 1000, "0.6200", "second"), ("Pop", 1000, "0.6800", "best")],
    }


def test_trimmed_prompts_are_others_in_every_model_and_none_is_best(comparison):
    pop = replace(comparison.rows[1], groups=comparison.rows[0].groups[-1:])
    tables = group_tables(replace(comparison, rows=(comparison.rows[0], pop)), METRICS)
    assert [cell.mark for line in tables["prompt"]["trimmed"] for cell in line.cells] == [""] * 6


def test_a_test_is_turned_to_the_pair_that_is_asked_for(comparison):
    test = find_test(comparison.tests, "LLMTRSR@recurrent", "Pop", "mrr@2")
    assert test is not None
    assert (test.first, test.second, test.p, test.p_holm) == ("LLMTRSR@recurrent", "Pop", 0.04, 0.08)
    assert test.difference == Estimate(0.02, -0.01, 0.05, 0.003)
    assert find_test(comparison.tests, "Pop", "LLMTRSR@recurrent", "mrr@2") == comparison.tests[0]
    assert find_test(comparison.tests, "Pop", "elsewhere", "mrr@2") is None


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
