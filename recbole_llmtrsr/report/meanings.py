"""Describes candidate modes, metrics, models and ablations for readers who do not know them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from recbole_llmtrsr.evaluation.comparison.cells import RANDOM
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison
from recbole_llmtrsr.report.facts import look_up

_MODES = {
    "uni": "{n} items drawn uniformly. Where most items are rarely chosen, ranking by popularity nearly solves the"
    " task",
    "pop": "{n} items drawn in proportion to their number of events. Where targets are new items, ranking by popularity"
    " is worse than chance",
    "match": "{n} items with as many training events as the target, or the next more and less popular ones;"
    " popularity then helps only with the most popular targets",
    "cat": "{n} items of the target's category, topped up uniformly where it is too small",
    "impressions": "the items that the user was shown together with it and did not click; several clicks are several"
    " targets",
    "file": "the items that a candidate file lists for it",
    "full": "all other items of the catalogue",
    "labeled": "none; each labelled event is scored by itself, and nothing is ranked",
}
_METRICS = {
    "recall": "share of a history's targets that are among the top K; with a single target, how often it is",
    "hit": "share of histories with a target among the top K",
    "precision": "share of targets among the top K",
    "mrr": "1 / rank of the first target, 0 where none is among the top K",
    "ndcg": "discounted gain of the targets among the top K, 1 / log2(1 + rank) each, as a share of what the best order"
    " would reach",
    "map": "precision at the rank of each target among the top K, averaged",
    "gauc": "share of pairs of a target and a negative that are in order; histories are weighted by their targets",
    "impressionauc": "share of pairs of a target and a negative that are in order; all histories have equal weight",
    "impressionmrr": "1 / rank, averaged over all targets of a history, without cut-off",
    "itemcoverage": "share of all items that are among the top K of any history",
    "averagepopularity": "mean number of training events of the items in the top K",
    "giniindex": "inequality of how often items are among the top K: 0 means equally often; smaller is better",
    "shannonentropy": "entropy of how often items are among the top K; more is more even",
    "tailpercentage": "share of rarely chosen items among the top K",
    "auc": "how often a positive event is scored above a negative one; 0.5 is chance",
    "logloss": "mean negative log-likelihood of the labels; smaller is better",
    "mae": "mean absolute difference of score and rating; smaller is better",
    "rmse": "root of the mean squared difference of score and rating; smaller is better",
}
_MODELS = {
    "LLMTRSR": "a language model reads a summary of the user's history, the recent items and one candidate, and answers"
    " whether the user will choose it; candidates are ranked by its log-odds of yes",
    "TALLRec": "LLMTRSR without the summary; the difference between the two shows what the summary is worth",
}
_ABLATIONS = {
    "shuffled history": "the whole history is in random order, so that other items become the recent ones; the"
    " summary stays",
    "no summary": "the prompt says 'none' instead of the summary; the recent items stay",
    "no recent items": "the prompt says 'none' instead of the recent items; the summary stays",
    "another user's summary": "the prompt holds the summary of another user of the test; the recent items stay",
    "ids instead of texts": "recent items and candidates are ids instead of texts; the summary stays",
    "paraphrased instruction": "the instruction is worded differently; everything else stays",
}


def mode_of_test(comparison: Comparison) -> str | None:
    """The candidate mode of the test; None where no row reports it, as with runs of other programs."""
    results = [result for row in comparison.rows for result in row.results]
    for path in (("candidates", "test", "mode"), ("options", "eval_args", "mode", "test")):
        mode = next((str(found) for result in results if (found := look_up(result, *path))), None)
        if mode is not None:
            return mode
    return None


def of_mode(mode: str | None) -> str | None:
    """Describes the negatives of a target; None for an unknown mode.

    >>> of_mode("cat20")
    "20 items of the target's category, topped up uniformly where it is too small"
    """
    parts = re.match(r"([a-z]+)(\d*)", mode or "")
    return _MODES[parts[1]].format(n=parts[2]) if parts and parts[1] in _MODES else None


def of_metrics(metrics: Sequence[str]) -> dict[str, str]:
    """Descriptions by metric without its cut-off, so that mrr@5 and mrr@10 share one."""
    parts = [metric.partition("@") for metric in metrics]
    return {f"{name}@K" if at else name: _METRICS[name] for name, at, _ in parts if name in _METRICS}


def of_models(comparison: Comparison) -> dict[str, str]:
    """Descriptions of this package's models and of random ranking; RecBole documents its models."""
    models = dict.fromkeys(str(look_up(result, "model")) for row in comparison.rows for result in row.results)
    found = {model: _MODELS[model] for model in models if model in _MODELS}
    if any("@" in row.label for row in comparison.rows):
        found["name@variant"] = "the model with the options of that variant, which are listed under Options"
    if comparison.random:
        found[RANDOM] = (
            "the expectation over all orders of the candidates; a model that is no better has learnt nothing"
        )
    return found


def of_ablations(names: Iterable[str]) -> dict[str, str]:
    """Descriptions by ablation."""
    return {name: _ABLATIONS[name] for name in dict.fromkeys(names) if name in _ABLATIONS}
