"""Ties without favour: equal scores are ranked in random order, for every model alike.

RecBole ranks by ``torch.topk``, which leaves equal scores in the order of their columns, and columns are item ids in
the order of the .inter file: popular items first. On ml-100k a model that scores everything alike then has an MRR@10
far above chance. Here the columns are shuffled before they are ranked, anew for every row, from one seed.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.evaluator import Collector
from torch import Tensor

from recbole_llmtrsr.errors import UserError


class UnbiasedCollector(Collector):  # type: ignore[misc]
    """RecBole's Collector on shuffled columns, which refuses scores that are not numbers.

    Args:
        config: our Config; its seed makes the shuffle the same at every evaluation.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._seed = int(config["seed"])
        self._n_batches = 0

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Any, positive_u: Tensor | None, positive_i: Tensor | None
    ) -> None:
        """Collect one batch.

        Args:
            scores_tensor: [n_rows, n_items], -inf for what is no candidate; [n_rows] for value metrics.
            interaction: the rows.
            positive_u: row of each target.
            positive_i: item of each target.

        Raises:
            UserError: a score is nan.
        """
        if torch.isnan(scores_tensor).any():
            raise UserError(
                "the model's scores hold nan: it diverged in training; lower learning_rate or set"
                " clip_grad_norm: {max_norm: 1.0}"
            )
        if positive_u is None or positive_i is None or self.register.need("rec.items"):
            # Metrics of the recommended items themselves (coverage and the like) need the columns to be items.
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        generator = torch.Generator().manual_seed(self._seed + self._n_batches)
        self._n_batches += 1
        order = torch.rand(scores_tensor.shape, generator=generator).argsort(dim=1)  # [n_rows, n_items]
        place = order.argsort(dim=1)  # where an item went
        super().eval_batch_collect(
            scores_tensor.gather(1, order.to(scores_tensor.device)),
            interaction,
            positive_u,
            place[positive_u.cpu(), positive_i.cpu()].to(positive_i.device),
        )

    def get_data_struct(self) -> Any:
        """What the evaluator reads; the next evaluation shuffles as this one did."""
        self._n_batches = 0
        return super().get_data_struct()
