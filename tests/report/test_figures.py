from __future__ import annotations

from dataclasses import replace

from recbole_llmtrsr.evaluation.comparison.comparison import Estimate
from recbole_llmtrsr.report.figures import plots_by_cost, plots_by_group, plots_by_k

METRICS = ["recall@1", "recall@2", "mrr@2", "gauc"]


def heights(series):
    return [point.y for point in series.points]


def test_a_metric_with_several_cut_offs_has_a_plot(comparison):
    (plot,) = plots_by_k(comparison, METRICS)
    assert plot.title == "recall by K"
    assert [tick.lines for tick in plot.x.ticks] == [("K = 1",), ("K = 2",)]
    assert {s.label: heights(s) for s in plot.series} == {
        "LLMTRSR@recurrent": [0.5, 0.75],
        "Pop": [0.5, 0.6],
        "elsewhere": [0.2],
        "random ranking": [1 / 3, 2 / 3],
    }
    assert plot.series[0].points[1].text == "K = 2, 0.7500 ±.010 [.700, .800]"
    assert (plot.series[0].points[1].low, plot.series[0].points[1].high) == (0.7, 0.8)


def test_cut_offs_are_in_their_order_as_numbers(comparison):
    named = {f"hit@{k}": Estimate(k / 100, 0.0, 1.0, None) for k in (10, 5, 20)}
    rows = tuple(replace(row, metrics=named) for row in comparison.rows)
    (plot,) = plots_by_k(replace(comparison, rows=rows, random=None), list(named))
    assert heights(plot.series[0]) == [0.05, 0.1, 0.2]
    assert [s.label for s in plot.series] == ["LLMTRSR@recurrent", "Pop", "elsewhere"]


def test_every_shared_group_has_a_place_with_its_size(comparison):
    length, popularity = plots_by_group(comparison, "mrr@2")
    assert (length.title, popularity.title) == ("mrr@2 by history length", "mrr@2 by target popularity")
    assert [tick.lines for tick in popularity.x.ticks] == [("cold", "200"), ("1-4", "events", "1,000")]
    assert {s.label: heights(s) for s in popularity.series} == {
        "LLMTRSR@recurrent": [0.5, 0.62],
        "Pop": [0.05, 0.68],
        "elsewhere": [],
        "random ranking": [0.25],
    }
    assert [s.label for s in length.series] == ["LLMTRSR@recurrent", "Pop", "elsewhere"]


def test_a_metric_without_an_interval_is_drawn_without_one(comparison):
    coverage = {f"itemcoverage@{k}": Estimate(0.3, float("nan"), float("nan"), None) for k in (1, 2)}
    rows = tuple(replace(row, metrics=coverage) for row in comparison.rows)
    (plot,) = plots_by_k(replace(comparison, rows=rows), list(coverage))
    assert (plot.series[0].points[0].low, plot.series[0].points[0].high) == (None, None)
    assert [s.label for s in plot.series] == ["LLMTRSR@recurrent", "Pop", "elsewhere"]


def test_costs_show_every_seed_and_their_mean_where_they_are_known(comparison):
    training, ranking, _ = plots_by_cost(comparison, "mrr@2")
    ours, pop, random = training.series
    assert [(p.x, p.y) for p in ours.seeds] == [(100.0, 0.59), (300.0, 0.61)]
    assert [(p.x, p.y, p.low, p.high) for p in ours.points] == [(200.0, 0.6, 0.6 - 0.05, 0.6 + 0.05)]
    # A time that was too short for the clock is drawn as the shortest it can tell, and said as it was measured.
    assert (pop.points[0].x, pop.seeds[0].text) == (0.001, "a seed: 0.0 s, 0.5800")
    assert [(p.x, p.y) for p in random.points] == [(training.x.low, 0.5), (training.x.high, 0.5)]
    assert [p.x for p in ranking.series[0].points] == [2.0]


def test_validation_is_drawn_by_time_where_it_was_kept(comparison):
    plot = plots_by_cost(comparison, "mrr@2")[2]
    assert plot.title == "validation mrr@2 while training, first seed"
    assert [[(p.x, p.y) for p in s.points] for s in plot.series] == [[(50.0, 0.4), (100.0, 0.61)]]


def test_without_costs_there_are_no_plots_of_them(comparison):
    assert plots_by_cost(replace(comparison, rows=comparison.rows[2:]), "recall@1") == []


def test_a_row_looks_the_same_in_all_plots(comparison):
    swapped = replace(comparison, rows=(comparison.rows[2], *comparison.rows[:2]))
    plots = [*plots_by_k(swapped, METRICS), *plots_by_group(swapped, "mrr@2"), *plots_by_cost(swapped, "mrr@2")]
    assert len(plots) == 6
    assert {s.number for plot in plots for s in plot.series if s.label == "LLMTRSR@recurrent"} == {1}
