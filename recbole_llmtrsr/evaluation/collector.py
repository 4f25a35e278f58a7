"""Exact metrics under ties in RecBole's evaluation, for all models.

RecBole ranks by ``torch.topk``, which orders equal scores by column. Columns are item ids in the order of the .inter
file, so that popular items come first, and on ml-100k a model with constant scores has an MRR@10 far above chance. This
module computes the expectation over all orders of equal scores, which for constant scores is exactly that of chance.
"""

from __future__ import annotations

from collections import OrderedDict
from logging import getLogger
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import Register
from torch import Tensor

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.metrics import EXPECTED, Floats, expected_ranks, mean_values, row_values
from recbole_llmtrsr.evaluation.tie_groups import Ints, tie_groups


class RankingCollector(Collector):  # type: ignore[misc]
    """RecBole's Collector, which also holds the values of every row of the latest evaluation, in the loader's order.

    RecBole collects metrics outside of `EXPECTED`, such as the coverage or popularity of the recommended items and
    metrics without a ranking.

    Args:
        config: the configuration of the run.
        score_resolution: scores are rounded to multiples of it before they are compared, so that noise in their last
            bits, which can depend on the position of a candidate, breaks no ties; None compares unrounded scores.

    Attributes:
        values: unrounded values of each row by metric, such as "recall@3". [n_rows]
        ranks: expected rank, averaged over the positives of a row. [n_rows]
        n_candidates: number of candidates of each row, including positives. [n_rows]
        n_positives: number of positives of each row. [n_rows]
    """

    def __init__(self, config: Config, score_resolution: float | None = None) -> None:
        super().__init__(config)
        if score_resolution is not None and not score_resolution > 0:
            raise ValueError(f"score_resolution must be > 0, got {score_resolution}")
        names = [metric.lower() for metric in config["metrics"]]
        self.register = Register({"metrics": [name for name in names if name not in EXPECTED]})
        self._expected = [name for name in names if name in EXPECTED]
        self._resolution = score_resolution
        self.forget()

    def forget(self) -> None:
        """Clear the values of earlier evaluations, since RecBole calls no collector for an evaluation without rows."""
        self._batches: list[dict[str, npt.NDArray[Any]]] = []
        self.values: dict[str, Floats] = {}
        self.ranks: Floats = np.zeros(0)
        self.n_candidates: Ints = np.zeros(0, dtype=np.int64)
        self.n_positives: Ints = np.zeros(0, dtype=np.int64)

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Interaction, positive_u: Tensor | None, positive_i: Tensor | None
    ) -> None:
        """Collect one batch.

        Args:
            scores_tensor: scores [n_rows, n_items], -inf for items that are not candidates; [n_rows] for value metrics.
            interaction: the rows.
            positive_u: row index of each positive.
            positive_i: item id of each positive.

        Raises:
            UserError: a score is nan, or the score of a candidate is -inf.
        """
        if torch.isnan(scores_tensor).any():
            raise UserError(
                "the model's scores contain nan, which means that training diverged: lower learning_rate or set"
                " clip_grad_norm: {max_norm: 1.0}"
            )
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if positive_u is None or positive_i is None or scores_tensor.dim() == 1:
            return
        compared = scores_tensor if self._resolution is None else torch.round(scores_tensor / self._resolution)
        groups = tie_groups(compared, positive_u, positive_i)
        _check_candidates(scores_tensor, interaction, self.config)
        self._batches.append(
            {
                "rank": expected_ranks(groups),
                "n_candidates": groups.row_candidates,
                "n_positives": groups.row_positives,
                **row_values(groups, self._expected, self.topk),
            }
        )

    def get_data_struct(self) -> DataStruct:
        """Return the input of the evaluator and clear the collected values.

        Deviation:
            RecBole's method fails on the counts that coverage and popularity need.
        """
        joined = {name: np.concatenate([b[name] for b in self._batches]) for name in next(iter(self._batches), {})}
        self.forget()
        if joined:  # metrics without a ranking have no rows
            self.ranks = joined.pop("rank")
            self.n_candidates, self.n_positives = joined.pop("n_candidates"), joined.pop("n_positives")
        self.values = joined
        struct = DataStruct()
        for name, value in list(self.data_struct._data_dict.items()):
            struct.set(name, value.cpu() if isinstance(value, Tensor) else value)
            if name.startswith("rec.") or name == "data.label":
                del self.data_struct[name]
        struct.set("rec.values", self.values)
        struct.set("rec.n_positives", self.n_positives)
        return struct


def _check_candidates(scores: Tensor, interaction: Interaction | None, config: Config) -> None:
    """Refuse a score of -inf for a candidate, which would silently remove it from its list.

    In full ranking the interaction holds only the target of each row of scores, which `tie_groups` checks.
    """
    if interaction is None or len(interaction) <= len(scores) or HISTORY_ID not in interaction:
        return
    _, row = torch.unique_consecutive(interaction[HISTORY_ID], return_inverse=True)
    items = interaction[config["ITEM_ID_FIELD"]].to(scores.device)
    n_gone = int(torch.isneginf(scores[row.to(scores.device), items]).sum())
    if n_gone:
        raise UserError(
            f"the model scored {n_gone} of {len(items)} candidates -inf, which marks items that are not candidates:"
            " scores must be finite; if the model diverged in training, lower learning_rate"
        )


class ExpectedEvaluator(Evaluator):  # type: ignore[misc]
    """RecBole's Evaluator on the values of a `RankingCollector`."""

    def evaluate(self, dataobject: DataStruct) -> OrderedDict[str, float]:
        """Return all metrics in the order of the option `metrics`, rounded as by RecBole."""
        values = dataobject.get("rec.values")
        means = mean_values(values, dataobject.get("rec.n_positives"))
        for name, of_rows in values.items():
            n_unknown = int(np.isnan(of_rows).sum())
            if n_unknown:
                getLogger().warning(f"{name}: {n_unknown} of {len(of_rows)} rows have no negatives and are excluded")
        result: OrderedDict[str, float] = OrderedDict()
        for metric in self.metrics:
            if metric in EXPECTED:
                decimals = self.config["metric_decimal_place"]
                of_metric = (name for name in means if name.split("@")[0] == metric)
                result.update((name, round(means[name], decimals)) for name in of_metric)
            else:
                result.update(self.metric_class[metric].calculate_metric(dataobject))
        return result
