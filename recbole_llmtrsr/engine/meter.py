"""Counts the work of a model in tokens and model operations.

    evaluation = forward,   train = forward + gradients of activations + gradients of trained weights

For a linear layer each of the three is the same product in size, so that training takes 3 times the forward pass where
its weight is trained and 2 times where it is frozen; with LoRA the low-rank layers count 3 times, the base under them
twice. Attention holds no weights: both factors of its products are activations, so it counts 3 times either way. The
gradient of activations is counted for every layer, as if the lowest one were trained.

Only what the rows need is counted: no padding, and no second forward pass of gradient checkpointing. These are the
"model FLOPs" of Chowdhery et al. (PaLM, 2022, appendix B), not the hardware's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from recbole_llmtrsr.engine.operations import OperationCosts, Work, plain_work, shared_prefix_work
from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.llm.backbone import Backbone

MeteredStage = Literal["train", "evaluation"]


class Meter:
    """Counts work by stage, of a backbone whose trainable weights are chosen.

    Attributes:
        not_counted: why operations cannot be counted on this backbone; None where they can.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.not_counted: str | None = None
        self._costs: dict[MeteredStage, OperationCosts] = {}
        try:
            forward = OperationCosts.of(backbone)
            self._costs = {"train": training_costs(forward, backbone), "evaluation": forward}
        except ValueError as error:
            self.not_counted = str(error)
        self._work: dict[MeteredStage, Work] = {"train": Work(), "evaluation": Work()}
        self._n_histories = self._n_candidates = 0

    def count(self, stage: MeteredStage, work: Work, n_histories: int, n_candidates: int) -> None:
        """Add a batch, by the work of its forward pass."""
        self._work[stage] += work
        self._n_histories += n_histories
        self._n_candidates += n_candidates

    def mark(self) -> tuple[Any, ...]:
        """The counts as they are now, for `back_to`."""
        return dict(self._work), self._n_histories, self._n_candidates

    def back_to(self, mark: tuple[Any, ...]) -> None:
        """Forget what was counted since: a step that ran out of memory is done again."""
        work, self._n_histories, self._n_candidates = mark
        self._work = dict(work)

    def state(self) -> dict[str, Any]:
        """All counts, as plain values."""
        work = {stage: asdict(own) for stage, own in self._work.items()}
        return {"work": work, "histories": self._n_histories, "candidates": self._n_candidates}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned."""
        self._work = {stage: Work(**own) for stage, own in state["work"].items()}
        self._n_histories, self._n_candidates = state["histories"], state["candidates"]

    @property
    def tokens(self) -> dict[str, int]:
        """Real tokens read so far, by stage."""
        return {stage: work.tokens for stage, work in self._work.items()}

    def totals(self) -> dict[str, int]:
        """Sums over all stages: tokens, histories, candidates, and operations where they can be counted."""
        totals = {
            "tokens": sum(work.tokens for work in self._work.values()),
            "histories": self._n_histories,
            "candidates": self._n_candidates,
        }
        if self.not_counted is None:
            totals["operations"] = sum(self._costs[stage].operations(work) for stage, work in self._work.items())
        return totals


def training_costs(forward: OperationCosts, backbone: Backbone) -> OperationCosts:
    """Operations of forward and backward pass per unit of forward work, by the rule above."""
    trained = sum(
        module.weight.numel()  # type: ignore[operator]
        for module in backbone.decoder.modules()
        if isinstance(module, nn.Linear | Conv1D) and module.weight.requires_grad
    )
    head: Any = backbone.output_head
    return OperationCosts(
        per_token=2 * forward.per_token + 2 * trained,
        per_pair=3 * forward.per_pair,
        per_logit=(3 if head.weight.requires_grad else 2) * forward.per_logit,
    )


def shared_rows_work(prompts: GroupedPrompts) -> Work:
    """Forward work of histories whose candidates share their prefix."""
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((shared_prefix_work(len(prefix), [len(c) for c in own]) for prefix, own in pairs), Work())


def separate_rows_work(prompts: GroupedPrompts) -> Work:
    """Forward work of one row per candidate."""
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((plain_work(1, len(prefix) + len(c)) for prefix, own in pairs for c in own), Work())
