"""Registers impression metrics with RecBole, whose Config refuses unregistered names.

`recbole_llmtrsr.evaluation.metrics` computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.register import metric_information, metric_types, metrics_dict
from recbole.utils import EvaluatorType


class _OfOneRow(AbstractMetric):  # type: ignore[misc]
    """A metric that is the mean of one number per row."""

    metric_type = EvaluatorType.RANKING
    metric_need = ("rec.values",)

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Not implemented: `ExpectedEvaluator` computes it, since RecBole's evaluator collects no numbers by row."""
        raise NotImplementedError(f"{type(self).__name__} needs trainer.evaluator = ExpectedEvaluator(config)")


class ImpressionAUC(_OfOneRow):
    """Share of a row's (positive, negative) pairs in the right order; GAUC weights rows by their positives."""


class ImpressionMRR(_OfOneRow):
    """Mean of 1/rank over all positives of a row, without cut-off; RecBole's MRR uses the first positive only."""


_NEW = {metric.__name__.lower(): metric for metric in (ImpressionAUC, ImpressionMRR)}
_WITHOUT_K = {"gauc", *_NEW}


def register_metrics() -> None:
    """Register the names, before RecBole's Config reads `metrics`; further calls change nothing."""
    for name, metric in _NEW.items():
        metrics_dict[name] = metric
        metric_types[name] = metric.metric_type
        metric_information[name] = list(metric.metric_need)


def result_names(metrics: Sequence[str], topk: Sequence[int]) -> list[str]:
    """Names of the results, in order, such as recall@3, recall@10, gauc; metrics may be in upper or lower case."""
    names: list[str] = []
    for metric in map(str.lower, metrics):
        whole = metric in _WITHOUT_K or metric_types.get(metric) == EvaluatorType.VALUE
        names += [metric] if whole else [f"{metric}@{k}" for k in topk]
    return names
