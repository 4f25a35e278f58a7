"""Counts the tokens that a model reads and its floating-point operations.

    evaluation = forward,   train = forward + gradients of activations + gradients of trained weights

For a linear layer the three terms are products of the same size. Training therefore takes 3 times the forward pass if
the weight is trained, and twice if it is frozen; with LoRA, low-rank layers count 3 times and base layers twice. Both
factors of attention's products are activations, so attention always counts 3 times. Gradients of activations are
counted for every layer, as if the lowest one were trained.

Neither padding nor the second forward pass of gradient checkpointing counts. These are the "model FLOPs" of Chowdhery
et al. (PaLM, 2022, appendix B), not those of the hardware.
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
    """Counts the work of a backbone by stage; its trainable weights must be selected before.

    Attributes:
        not_counted: why operations cannot be counted on this backbone; None if they can.
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
        """Add a batch.

        Args:
            stage: training or evaluation.
            work: the work of the forward pass.
            n_histories: histories in the batch.
            n_candidates: candidates of all its histories.
        """
        self._work[stage] += work
        self._n_histories += n_histories
        self._n_candidates += n_candidates

    def mark(self) -> tuple[Any, ...]:
        """The current counts, for `back_to`."""
        return dict(self._work), self._n_histories, self._n_candidates

    def back_to(self, mark: tuple[Any, ...]) -> None:
        """Undo all counts since a mark, because a step that ran out of memory is repeated."""
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
        """Tokens read so far, without padding, by stage."""
        return {stage: work.tokens for stage, work in self._work.items()}

    def totals(self) -> dict[str, int]:
        """Totals over all stages: tokens, histories, candidates, and operations if they can be counted."""
        totals = {
            "tokens": sum(work.tokens for work in self._work.values()),
            "histories": self._n_histories,
            "candidates": self._n_candidates,
        }
        if self.not_counted is None:
            totals["operations"] = sum(self._costs[stage].operations(work) for stage, work in self._work.items())
        return totals


def training_costs(forward: OperationCosts, backbone: Backbone) -> OperationCosts:
    """Operations of the forward and backward pass per unit of forward work, by the rule of this module."""
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
    """Work of the forward pass if the candidates of a history share its prefix."""
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((shared_prefix_work(len(prefix), [len(c) for c in own]) for prefix, own in pairs), Work())


def separate_rows_work(prompts: GroupedPrompts) -> Work:
    """Work of the forward pass with one row per candidate."""
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((plain_work(1, len(prefix) + len(c)) for prefix, own in pairs for c in own), Work())
