"""Metrics of impressions made known to RecBole, whose Config refuses names that it has not registered.

How they are computed stands in `recbole_llmtrsr.evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.register import metric_information, metric_types, metrics_dict
from recbole.utils import EvaluatorType


class _OfOneRow(AbstractMetric):  # type: ignore[misc]
    """A metric that is the plain mean of a number per row."""

    metric_type = EvaluatorType.RANKING
    metric_need = ("rec.values",)

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Left to our evaluator, since RecBole's own collects no numbers by row."""
        raise NotImplementedError(f"{type(self).__name__} needs trainer.evaluator = ExpectedEvaluator(config)")


class ImpressionAUC(_OfOneRow):
    """Share of a row's (positive, negative) pairs that are in order; GAUC weights rows by their positives."""


class ImpressionMRR(_OfOneRow):
    """Mean of 1/rank over all positives of a row, without cut-off; RecBole's MRR looks at the first one alone."""


_NEW = {metric.__name__.lower(): metric for metric in (ImpressionAUC, ImpressionMRR)}
_WITHOUT_K = {"gauc", *_NEW}


def register_metrics() -> None:
    """Make the names known to RecBole, before its Config reads `metrics`; calling it again changes nothing."""
    for name, metric in _NEW.items():
        metrics_dict[name] = metric
        metric_types[name] = metric.metric_type
        metric_information[name] = list(metric.metric_need)


def result_names(metrics: Sequence[str], topk: Sequence[int]) -> list[str]:
    """Names of the results, in their order, such as recall@3, recall@10, gauc, for metrics written in any case."""
    names: list[str] = []
    for metric in map(str.lower, metrics):
        whole = metric in _WITHOUT_K or metric_types.get(metric) == EvaluatorType.VALUE
        names += [metric] if whole else [f"{metric}@{k}" for k in topk]
    return names
