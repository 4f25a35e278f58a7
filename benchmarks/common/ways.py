"""The scoring methods by name: ours with each of its back-ends, and baselines that score all prompts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from common.baselines import Passes, cached_passes, plain_passes, work_of_cached, work_of_plain, work_over_cache
from common.prompts import Prompts
from torch import Tensor

from recbole_llmtrsr.engine.operations import Work, shared_prefix_work
from recbole_llmtrsr.engine.scorer import Scorer
from recbole_llmtrsr.engine.scoring import scores_with_gradients
from recbole_llmtrsr.engine.token_batches import candidate_chunks, token_batches
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.assembly import PromptedBackbone


@dataclass(frozen=True)
class Way:
    """A scoring method.

    Attributes:
        name: name in tables.
        passes: function that yields the scores of each forward pass at a batch size, with their positions in the table.
        work: function that counts the work at a batch size, with or without dense counts for masked attention.
        unit: unit of the batch size.
        budget: the batch size, if it is not searched for; it decreases when memory runs out.
    """

    name: str
    passes: Callable[[PromptedBackbone, Prompts, int], Passes]
    work: Callable[[Prompts, int, bool], Work]
    unit: Literal["rows", "histories", "tokens"]
    budget: TokenBudget | None = None

    def score(self, parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
        """Score all candidates. [B, C]"""
        passes = list(self.passes(parts, prompts, size))
        places = torch.tensor([place for _, places in passes for place in places])
        return torch.cat([scores for scores, _ in passes])[places.argsort()].view(len(prompts.prefixes), -1)


PLAIN = Way("plain rows", plain_passes, work_of_plain, "rows")
CACHED = Way("cached prefix", cached_passes, work_of_cached, "histories")


def ours(backend: str, budget: TokenBudget) -> Way:
    """Return scoring as in a run, with one of its attention back-ends and its bound on tokens."""
    work = work_of_own_cache if backend == "cached_prefix" else work_of_ours
    return Way(f"ours, {backend}", partial(_scorer_passes, backend, budget), work, "tokens", budget)


def ours_in_training(backend: str, budget: TokenBudget) -> Way:
    """Return scoring with gradients, in passes as in a run."""
    return Way(f"ours, {backend}", partial(_training_passes, backend), work_of_ours, "tokens", budget)


def work_of_ours(prompts: Prompts, size: int, dense: bool) -> Work:
    """Count every token once and without padding, the minimum for exact scores."""
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((shared_prefix_work(len(p), list(map(len, own))) for p, own in pairs), Work())


def work_of_own_cache(prompts: Prompts, size: int, dense: bool) -> Work:
    """Count every prefix once, and its candidates in chunks padded to the longest of each."""
    total = Work()
    for prefix, own in zip(prompts.prefixes, prompts.candidates):
        total += shared_prefix_work(len(prefix), ())
        lengths = list(map(len, own))
        for chunk in candidate_chunks(lengths, len(prefix), size, padded=True):
            total += work_over_cache(len(prefix), len(chunk), max(lengths[i] for i in chunk), dense)
    return total


def precision(backbone: Backbone) -> AbstractContextManager[None]:
    """Return autocast as in a run, which uses it for weights in bfloat16."""
    return torch.autocast(backbone.device.type, torch.bfloat16, enabled=backbone.transformer.dtype == torch.bfloat16)


def _scorer_passes(backend: str, budget: TokenBudget, parts: PromptedBackbone, prompts: Prompts, size: int) -> Passes:
    """Score all prompts; the Scorer divides them into passes and lowers its budget itself."""
    parts.backbone.attention = backend  # type: ignore[assignment]
    scorer = Scorer(parts.backbone, parts.yes_id, parts.no_id, budget)
    yield scorer.scores(prompts.grouped()).flatten(), range(len(prompts))


def _training_passes(backend: str, parts: PromptedBackbone, prompts: Prompts, size: int) -> Passes:
    parts.backbone.attention = backend  # type: ignore[assignment]
    n_tokens, n = prompts.grouped().sizes(rows_apart=False), len(prompts.candidates[0])
    for batch in token_batches(n_tokens, size):
        part = prompts.grouped().chosen(batch)
        scores = scores_with_gradients(parts.backbone, part, parts.yes_id, parts.no_id)
        yield scores.flatten(), [i * n + candidate for i in batch for candidate in range(n)]
