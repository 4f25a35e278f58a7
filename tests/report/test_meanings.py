"""Nothing that a comparison can name is left without a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recbole.evaluator.register import metrics_dict

from recbole_llmtrsr.config.metric_names import register_metrics
from recbole_llmtrsr.evaluation.metrics import EXPECTED
from recbole_llmtrsr.experiment.ablations import ABLATIONS
from recbole_llmtrsr.report.meanings import mode_of_test, of_ablations, of_metrics, of_mode, of_models


def test_every_ablation_has_a_sentence():
    assert list(of_ablations(ABLATIONS)) == list(ABLATIONS)


def test_every_metric_of_ours_and_of_recbole_has_a_sentence():
    register_metrics()
    names = {*EXPECTED, *metrics_dict}
    assert {"itemcoverage", "impressionauc", "rmse"} < names
    assert set(of_metrics(sorted(names))) == names


def test_the_cut_offs_of_a_metric_share_a_sentence():
    assert of_metrics(["mrr@5", "mrr@10", "gauc", "unheard@3"]) == {
        "mrr@K": "1 / rank of the first target, 0 where none is among the top K",
        "gauc": "share of pairs of a target and a negative that are in order; histories are weighted by their targets",
    }


@pytest.mark.parametrize(
    ("mode", "begins"),
    [
        ("uni20", "20 items drawn uniformly"),
        ("pop5", "5 items drawn in proportion"),
        ("match20", "20 items with as many training events"),
        ("cat100", "100 items of the target's category"),
        ("impressions", "the items that the user was shown"),
        ("file:a/b c2.npz", "the items that a candidate file lists"),
        ("full", "all other items"),
        ("labeled", "none; each labelled event"),
    ],
)
def test_every_mode_has_a_sentence(mode, begins):
    assert of_mode(mode).startswith(begins)


@pytest.mark.parametrize("mode", ["unheard", "20", "", None])
def test_of_other_modes_nothing_is_said(mode):
    assert of_mode(mode) is None


def test_the_mode_is_that_of_any_row_that_tells_it(comparison):
    ours, pop, elsewhere = comparison.rows
    assert mode_of_test(replace(comparison, rows=(elsewhere, pop))) == "uni2"
    assert mode_of_test(replace(comparison, rows=(elsewhere,))) is None
    options = {"options": {"eval_args": {"mode": {"valid": "uni9", "test": "full"}}}, "candidates": {}}
    assert mode_of_test(replace(comparison, rows=(replace(ours, results=(options,)),))) == "full"


def test_models_of_others_are_left_to_their_own_words(comparison):
    _, pop, elsewhere = comparison.rows
    assert of_models(replace(comparison, rows=(pop, elsewhere), random=None)) == {}
    ours = replace(pop, results=({"model": "TALLRec"},))
    assert list(of_models(replace(comparison, rows=(ours,)))) == ["TALLRec", "random ranking"]
