"""Next-token loss over prompt and answer, the training loss of the paper (``loss_on: full``).

The answer is one of about a thousand tokens, so most of this loss trains the backbone to reproduce prompts.

To save memory, logits of the whole vocabulary are computed for a few tokens at a time and recomputed in the backward
pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from recbole_llmtrsr.engine.rows import GroupedPrompts, PlainRows, plain_rows, shared_prefix_rows
from recbole_llmtrsr.engine.scoring import HeadScale, plain_states, shared_prefix_states
from recbole_llmtrsr.llm.backbone import Backbone

_MAX_LOGITS_AT_ONCE = 2**25  # 128 MiB of float32


@dataclass(frozen=True)
class NextTokens:
    """Pairs of a token and its successor in a batch.

    Attributes:
        token: index of a token. [K]
        target: id of its successor. [K]
        weight: number of prompts that contain the pair. [K]
    """

    token: Tensor
    target: Tensor
    weight: Tensor


def language_loss(backbone: Backbone, prompts: GroupedPrompts, answer_ids: Sequence[Sequence[int]]) -> Tensor:
    """Mean cross-entropy over all next tokens of all prompts, including the answer. []

    Args:
        backbone: the language model.
        prompts: the prompts of B histories.
        answer_ids: token id of the correct answer for each candidate of each history; surplus entries are ignored.

    Source:
        Zheng et al. (WWW 2024): the training loss, which covers prompt and answer.
    """
    if backbone.is_unpacked:
        rows, pairs = plain_rows(prompts, backbone.pad_id), zip(prompts.candidates, answer_ids)
        answers = torch.tensor([answer for own, ids in pairs for _, answer in zip(own, ids)])
        return _cross_entropy(backbone, plain_states(backbone, rows).flatten(0, 1), _next_in_rows(rows, answers))
    states = shared_prefix_states(backbone, shared_prefix_rows(prompts).to(backbone.device))
    return _cross_entropy(backbone, states, next_tokens(prompts, answer_ids))


def _next_in_rows(rows: PlainRows, answers: Tensor) -> NextTokens:
    targets = torch.cat([rows.input_ids[:, 1:], torch.zeros_like(rows.input_ids[:, :1])], dim=1)
    targets[torch.arange(len(targets)), rows.answer_positions] = answers
    token = rows.attention_mask.flatten().nonzero()[:, 0]
    return NextTokens(token, targets.flatten()[token], torch.ones(len(token)))


def next_tokens(prompts: GroupedPrompts, answer_ids: Sequence[Sequence[int]]) -> NextTokens:
    """Pairs in shared-prefix rows, in which every candidate of a history follows the last token of its prefix."""
    prefixes, candidates = prompts.prefixes, prompts.candidates
    tokens, targets, weights = [], [], []
    begin = 0
    last_of_prefix = []
    for prefix, own in zip(prefixes, candidates):
        n = max(len(prefix) - 1, 0)
        tokens.append(np.arange(begin, begin + n))
        targets.append(np.asarray(prefix[1:], dtype=np.int64))
        weights.append(np.full(n, float(len(own))))
        begin += len(prefix)
        last_of_prefix.append(begin - 1)
    for prefix, last, own, answers in zip(prefixes, last_of_prefix, candidates, answer_ids):
        for section, answer in zip(own, answers):
            before = [last] if len(prefix) else []
            following = [*section, answer] if before else [*section[1:], answer]
            tokens.append(np.array([*before, *range(begin, begin + len(section))]))
            targets.append(np.asarray(following, dtype=np.int64))
            weights.append(np.ones(len(following)))
            begin += len(section)
    return NextTokens(
        torch.from_numpy(np.concatenate(tokens)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.concatenate(weights)).float(),
    )


def _cross_entropy(backbone: Backbone, states: Tensor, following: NextTokens) -> Tensor:
    """Weighted mean over all pairs; states [M, H]."""
    token, target, weight = (x.to(states.device) for x in (following.token, following.target, following.weight))
    size = max(1, _MAX_LOGITS_AT_ONCE // backbone.vocab_size)
    losses = []
    for begin in range(0, len(token), size):
        part = slice(begin, begin + size)
        arguments = (backbone, states, token[part], target[part], weight[part])
        losses.append(checkpoint(_weighted_sum, *arguments, use_reentrant=False))
    return torch.stack(losses).sum() / weight.sum()


def _weighted_sum(backbone: Backbone, states: Tensor, token: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    head = HeadScale.of(backbone.config)
    logits = head.applied(backbone.output_head(backbone.before_head(states[token])).float())
    return (F.cross_entropy(logits, target, reduction="none") * weight).sum()
