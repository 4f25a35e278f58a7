"""Every way to score, by name: ours with each of its back-ends, and the baselines that are run whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from common.baselines import score_cached, score_rows, work_of_cached, work_of_rows
from common.prompts import Prompts
from torch import Tensor

from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.assembly import PromptedBackbone
from recbole_llmtrsr.model.operations import Work, shared_prefix_work
from recbole_llmtrsr.model.scorer import Scorer
from recbole_llmtrsr.model.scoring import scores_with_gradients
from recbole_llmtrsr.model.token_budget import TokenBudget


@dataclass(frozen=True)
class Way:
    """A way to score: scores of prompts [B, C], its work by whether attention counts dense, and batch sizes to try."""

    name: str
    score: Callable[[PromptedBackbone, Prompts, int], Tensor]
    work: Callable[[Prompts, int, bool], Work]
    sizes: Sequence[int]


PLAIN = Way("plain rows", score_rows, work_of_rows, (1, 2, 4, 8, 16, 32, 64, 128))
CACHED = Way("cached prefix", score_cached, work_of_cached, (1, 2, 4, 8, 16))


def ours(backend: str, budget: TokenBudget) -> Way:
    """Scoring as a run does it, with one of its attention back-ends and its bound on tokens for a batch size."""
    return Way(f"ours, {backend}", partial(_score, backend, budget), work_of_ours, (budget.max_tokens,))


def ours_in_training(backend: str) -> Way:
    """`size` histories at a time."""
    return Way(f"ours, {backend}", partial(_score_with_gradients, backend), work_of_ours, (1, 2, 4, 8))


def work_of_ours(prompts: Prompts, size: int, dense: bool) -> Work:
    """Every real token once: the least that exact scores take."""
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((shared_prefix_work(len(p), list(map(len, own))) for p, own in pairs), Work())


def precision(backbone: Backbone) -> AbstractContextManager[None]:
    """Autocast where a run has it: on weights in bfloat16."""
    return torch.autocast(backbone.device.type, torch.bfloat16, enabled=backbone.transformer.dtype == torch.bfloat16)


def _score(backend: str, budget: TokenBudget, parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    parts.backbone.attention = backend  # type: ignore[assignment]
    scorer = Scorer(parts.backbone, parts.yes_id, parts.no_id, budget)
    return scorer.scores(prompts.prefixes, prompts.candidates)


def _score_with_gradients(backend: str, parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    parts.backbone.attention = backend  # type: ignore[assignment]
    scores = [
        scores_with_gradients(parts.backbone, part.prefixes, part.candidates, parts.yes_id, parts.no_id)
        for part in prompts.parts(size)
    ]
    return torch.cat(scores)
