"""Every way to score, by name: ours with each of its back-ends, and the baselines that are run whole."""

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
    """A way to score.

    Attributes:
        name: in tables.
        passes: scores of prompts by forward pass, at a batch size, with their places in the table.
        work: of prompts at a batch size, by whether attention counts dense where it is computed so.
        unit: what its batch size counts.
        budget: its batch size, if that is not to be found by trying; lower after a run that was out of memory.
    """

    name: str
    passes: Callable[[PromptedBackbone, Prompts, int], Passes]
    work: Callable[[Prompts, int, bool], Work]
    unit: Literal["rows", "histories", "tokens"]
    budget: TokenBudget | None = None

    def score(self, parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
        """Scores of all candidates. [B, C]"""
        passes = list(self.passes(parts, prompts, size))
        places = torch.tensor([place for _, places in passes for place in places])
        return torch.cat([scores for scores, _ in passes])[places.argsort()].view(len(prompts.prefixes), -1)


PLAIN = Way("plain rows", plain_passes, work_of_plain, "rows")
CACHED = Way("cached prefix", cached_passes, work_of_cached, "histories")


def ours(backend: str, budget: TokenBudget) -> Way:
    """Scoring as a run does it, with one of its attention back-ends and its bound on tokens."""
    work = work_of_own_cache if backend == "cached_prefix" else work_of_ours
    return Way(f"ours, {backend}", partial(_scorer_passes, backend, budget), work, "tokens", budget)


def ours_in_training(backend: str, budget: TokenBudget) -> Way:
    """Scores with gradients, in passes as a run divides them."""
    return Way(f"ours, {backend}", partial(_training_passes, backend), work_of_ours, "tokens", budget)


def work_of_ours(prompts: Prompts, size: int, dense: bool) -> Work:
    """Every real token once: the least that exact scores take."""
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((shared_prefix_work(len(p), list(map(len, own))) for p, own in pairs), Work())


def work_of_own_cache(prompts: Prompts, size: int, dense: bool) -> Work:
    """Every prefix once, and its candidates in chunks padded to the longest of each."""
    total = Work()
    for prefix, own in zip(prompts.prefixes, prompts.candidates):
        total += shared_prefix_work(len(prefix), ())
        lengths = list(map(len, own))
        for chunk in candidate_chunks(lengths, len(prefix), size, padded=True):
            total += work_over_cache(len(prefix), len(chunk), max(lengths[i] for i in chunk), dense)
    return total


def precision(backbone: Backbone) -> AbstractContextManager[None]:
    """Autocast where a run has it: on weights in bfloat16."""
    return torch.autocast(backbone.device.type, torch.bfloat16, enabled=backbone.transformer.dtype == torch.bfloat16)


def _scorer_passes(backend: str, budget: TokenBudget, parts: PromptedBackbone, prompts: Prompts, size: int) -> Passes:
    """All passes together: a Scorer divides them itself, within a budget that it lowers itself."""
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
