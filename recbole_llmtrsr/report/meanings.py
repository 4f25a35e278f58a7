"""A sentence for each candidate mode, metric, model and ablation, for readers who do not know them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from recbole_llmtrsr.evaluation.comparison.cells import RANDOM
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison
from recbole_llmtrsr.report.facts import look_up

_MODES = {
    "uni": "{n} items drawn uniformly. Where most items are hardly ever chosen, counting clicks nearly solves it",
    "pop": "{n} items drawn in proportion to their number of events. Where targets are fresh, counting clicks is worse"
    " than chance",
    "match": "{n} items with as many training events as the target, or the next more and less popular ones: counting"
    " helps only with the most popular targets",
    "cat": "{n} items of the target's category, topped up uniformly where it is too small",
    "impressions": "what the user was shown together with it and did not click; several clicks are several targets",
    "file": "those that a candidate file names",
    "full": "all other items of the catalogue",
    "labeled": "none; events that bear a label are scored each by itself, and nothing is ranked",
}
_METRICS = {
    "recall": "share of a history's targets that are among the best K; of a single target, how often it is",
    "hit": "share of histories with a target among the best K",
    "precision": "share of targets among the best K",
    "mrr": "1 / rank of the first target, 0 where none is among the best K",
    "ndcg": "targets among the best K, each counting less the lower it stands (1 / log2(1 + rank)), as a share of"
    " what the best order would reach",
    "map": "precision at the rank of each target among the best K, averaged",
    "gauc": "share of pairs of a target and a negative that are in order; histories count by their targets",
    "impressionauc": "share of pairs of a target and a negative that are in order; all histories count alike",
    "impressionmrr": "1 / rank, averaged over all targets of a history, without cut-off",
    "itemcoverage": "share of all items that are among the best K of anybody",
    "averagepopularity": "mean number of training events of the best K",
    "giniindex": "how unequally items come among the best K: 0 is all alike; smaller is better",
    "shannonentropy": "how evenly items come among the best K; more is more even",
    "tailpercentage": "share of rarely chosen items among the best K",
    "auc": "how often a positive event is scored above a negative one",
    "logloss": "mean negative log-likelihood of the labels; smaller is better",
    "mae": "mean distance of score and rating; smaller is better",
    "rmse": "root of the mean squared distance of score and rating; smaller is better",
}
_MODELS = {
    "LLMTRSR": "a language model reads a summary of the user's history, the recent items and one candidate, and answers"
    " whether the user will choose it; candidates are ranked by its log-odds of yes",
    "TALLRec": "LLMTRSR without the summary: what is between the two is what the summary is worth",
}
_ABLATIONS = {
    "shuffled history": "the whole history in random order, so that other items become the recent ones; the summary"
    " stays",
    "no summary": "'none' in place of the summary; the recent items stay",
    "no recent items": "'none' in place of the recent items; the summary stays",
    "another user's summary": "the summary that another user has in the test; the recent items stay",
    "ids instead of texts": "recent items and candidates as ids instead of their texts; the summary stays",
    "paraphrased instruction": "the instruction in other words; all else stays",
}


def mode_of_test(comparison: Comparison) -> str | None:
    """The candidate mode of the test; None where no row reports it, as where all are of other programs."""
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
    """Sentences by metric without its cut-off, so that mrr@5 and mrr@10 share one."""
    parts = [metric.partition("@") for metric in metrics]
    return {f"{name}@K" if at else name: _METRICS[name] for name, at, _ in parts if name in _METRICS}


def of_models(comparison: Comparison) -> dict[str, str]:
    """Sentences on the models of this package and on random ranking; RecBole documents its models."""
    models = dict.fromkeys(str(look_up(result, "model")) for row in comparison.rows for result in row.results)
    found = {model: _MODELS[model] for model in models if model in _MODELS}
    if any("@" in row.label for row in comparison.rows):
        found["name@variant"] = "a model with options of its own, which are listed under Options"
    if comparison.random:
        found[RANDOM] = "all orders of the candidates alike: what is no better has learnt nothing"
    return found


def of_ablations(names: Iterable[str]) -> dict[str, str]:
    """Sentences by ablation."""
    return {name: _ABLATIONS[name] for name in dict.fromkeys(names) if name in _ABLATIONS}
