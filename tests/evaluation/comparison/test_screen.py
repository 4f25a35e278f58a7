from __future__ import annotations

import math
from typing import Any

import pytest

from recbole_llmtrsr.evaluation.comparison.comparison import AblationEstimate, Comparison, Row
from recbole_llmtrsr.evaluation.comparison.estimates import PairTest
from recbole_llmtrsr.evaluation.comparison.screen import primary_first, screen, uneven_budgets
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate

METRICS = {
    "recall@5": 0.75,
    "recall@10": 0.9173,
    "mrr@5": 0.5098,
    "mrr@10": 0.53,
    "ndcg@5": 0.5746,
    "ndcg@10": 0.6229,
}


def result(epochs: int, n_train: int, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "ml-100k",
        "test_result": METRICS,
        "epochs_trained": epochs,
        "n_train": n_train,
        "n_test": 943,
        "seconds": {"training": 1199.4},
        "cost": {"training": {"peak_memory_gib": 0.99}},
        "candidates": {"test": {"hash": "0123", "mode": "uni20"}},
        "options": {"valid_metric": "MRR@10"},
        "weights": {"total": 100, "trainable": 100},
        **changes,
    }


def row(label: str, shift: float, *results: dict[str, Any], ablations: tuple[AblationEstimate, ...] = ()) -> Row:
    metrics = {
        name: Estimate(mean + shift, mean + shift - 0.02, mean + shift + 0.02, None) for name, mean in METRICS.items()
    }
    return Row(label, (2020,), metrics, (), ablations, results)


def compared() -> Comparison:
    ablation = AblationEstimate("no summary", {"mrr@10": Estimate(-0.05, -0.06, -0.04, None)})
    rows = (row("LLMTRSR", 0, result(1, 14_145), ablations=(ablation,)), row("SASRec", -0.1, result(2, 98_114)))
    tests = (PairTest("LLMTRSR", "SASRec", "mrr@10", Estimate(0.1, 0.05, 0.15, None), 0.0001, 0.0003),)
    return Comparison("ml-100k", rows, tests, dict.fromkeys(METRICS, 0.2))


SCREEN = """\
ml-100k, test, 943 targets, candidates uni20, seed 2020
-------------------------------------------------------
model           mrr@10 [95 % interval]  recall@10  ndcg@10  training   memory
LLMTRSR         0.5300 [.510, .550]        0.9173   0.6229   1,199 s  1.0 GiB
SASRec          0.4300 [.410, .450]        0.8173   0.5229   1,199 s  1.0 GiB
random ranking  0.2000                     0.2000   0.2000         -        -

mrr@10 of LLMTRSR minus that of, p Holm-corrected
  SASRec  +0.1000 [.050, .150], p < .001

change of mrr@10 with changed prompts
  no summary  -0.0500 [-.060, -.040]

warning: the models had different numbers of training targets: LLMTRSR 14,145,
         SASRec 98,114"""


def test_the_primary_metric_leads_and_what_does_not_fit_is_left_out():
    assert screen(compared(), 80) == SCREEN
    assert primary_first(compared())[:3] == ["mrr@10", "recall@10", "ndcg@10"]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_screen(width):
    shown = screen(compared(), width)
    assert max(map(len, shown.splitlines())) <= width
    assert all("0." in line for line in shown.split("\n\n")[0].splitlines()[3:])


def test_a_metric_without_an_interval_has_a_plain_column():
    plain = Row("A", (1,), {"rmse": Estimate(0.9, math.nan, math.nan, None)}, (), (), (result(1, 5, options={}),))
    lines = screen(Comparison("tiny", (plain,), (), None), 80).splitlines()
    assert lines[2:] == ["model  rmse    training   memory", "A      0.9000   1,199 s  1.0 GiB"]


def test_seeds_add_their_deviation():
    seeds = Row("A", (1, 2), {"mrr@10": Estimate(0.5, 0.4, 0.6, 0.01)}, (), (), (result(1, 5), result(1, 5)))
    lines = screen(Comparison("tiny", (seeds,), (), None), 80).splitlines()
    assert lines[2].startswith("model  mrr@10 ± deviation [95 % interval]")
    assert lines[3].startswith("A      0.5000 ±.010 [.400, .600]")


def test_without_metrics_there_is_no_screen():
    assert screen(Comparison("tiny", (Row("A", (1,), {}, (), (), (result(1, 1),)),), (), None), 80) == ""


def test_budgets_are_compared_between_models_that_learn():
    even = Comparison("tiny", (row("A", 0, result(1, 10)), row("B", 0, result(2, 29))), (), None)
    assert [*uneven_budgets(even)] == []
    counting = row("Pop", 0, result(1, 5, weights={"total": 1, "trainable": 1}))
    assert [*uneven_budgets(Comparison("tiny", (row("A", 0, result(9, 90)), counting), (), None))] == []
    assert [
        *uneven_budgets(Comparison("tiny", (row("A", 0, result(3, 10)), row("B", 0, result(1, 10))), (), None))
    ] == ["the models had different numbers of epochs: A 3, B 1"]


def test_a_long_label_keeps_its_end_and_the_width():
    long = Comparison(
        "tiny", (row(f"SASRec@{'v' * 50}wide", 0, result(1, 10)), row("Pop", -0.1, result(1, 10))), (), None
    )
    lines = screen(long, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[3].startswith("...vvvvvvvvvvvvvwide  0.5300 [.510, .550]")
