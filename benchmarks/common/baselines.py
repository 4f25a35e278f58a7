"""The other scoring methods: the authors' procedure, plain rows, and a cached prefix copied for each of its candidates.

They are written without this package's engine, on transformers' SDPA attention. Padding is on the right, where causal
attention ignores it, so that only the authors' procedure and candidates over a padded cache need a mask. Each method
yields the scores of its forward passes with their positions in the table [B * C], and counts its work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from common.prompts import Prompts
from torch import Tensor

from recbole_llmtrsr.engine.operations import FIXED_WIDTH, Work, full_logits_work, plain_work, shared_prefix_work
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.assembly import PromptedBackbone

Passes = Iterator[tuple[Tensor, Sequence[int]]]


def plain_passes(parts: PromptedBackbone, prompts: Prompts, size: int) -> Passes:
    """Score `size` rows at a time, sorted by length and padded to the longest row."""
    rows = [[*prefix, *c] for prefix, own in zip(prompts.prefixes, prompts.candidates) for c in own]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        ids, lengths = _padded([rows[i] for i in places], parts.backbone)
        hidden = parts.backbone.decoder(input_ids=ids, use_cache=False).last_hidden_state
        yield _log_odds(parts, hidden, lengths), places


def work_of_plain(prompts: Prompts, size: int, dense: bool) -> Work:
    """Count the work of `plain_passes`; without a mask the kernel skips later tokens, so it is never dense."""
    lengths = sorted(prompts.row_lengths())
    batches = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    return sum((plain_work(len(rows), rows[-1]) for rows in batches), Work())


def cached_passes(parts: PromptedBackbone, prompts: Prompts, size: int) -> Passes:
    """Score `size` histories at a time, copying the keys and values of each prefix for its candidates."""
    begin = 0
    for part in prompts.parts(size):
        yield _cached(parts, part), range(begin, begin + len(part))
        begin += len(part)


def _cached(parts: PromptedBackbone, part: Prompts) -> Tensor:
    backbone, n = parts.backbone, len(part.candidates[0])
    prefixes, begins = _padded(part.prefixes, backbone)
    past = backbone.decoder(input_ids=prefixes, use_cache=True).past_key_values
    past.batch_repeat_interleave(n)
    ids, lengths = _padded([c for own in part.candidates for c in own], backbone)
    begins = begins.repeat_interleave(n)
    hidden = backbone.decoder(
        input_ids=ids,
        attention_mask=torch.cat([_mask(begins, prefixes.shape[1]), _mask(lengths, ids.shape[1])], 1),
        position_ids=begins[:, None] + torch.arange(ids.shape[1], device=ids.device),
        past_key_values=past,
        use_cache=True,
    ).last_hidden_state
    return _log_odds(parts, hidden, lengths)


def work_of_cached(prompts: Prompts, size: int, dense: bool) -> Work:
    """Count the work of `cached_passes`."""
    total = Work()
    for part in prompts.parts(size):
        width = max(map(len, part.prefixes))
        total += shared_prefix_work(width, ()) * len(part.prefixes)
        total += work_over_cache(width, len(part), max(part.section_lengths()), dense)
    return total


def work_over_cache(prefix_width: int, n_candidates: int, width: int, dense: bool) -> Work:
    """Count the work of candidates padded to a width over a cached prefix.

    Args:
        prefix_width: tokens of the cached prefix, including padding.
        n_candidates: number of candidates.
        width: tokens of each candidate, including padding.
        dense: count all pairs, which masked attention computes; otherwise only causal pairs within a candidate.
    """
    own = width * width if dense else width * (width + 1) // 2
    return Work(n_candidates * width, n_candidates * (width * prefix_width + own), 2 * n_candidates)


def authors_passes(parts: PromptedBackbone, prompts: Prompts, size: int) -> Passes:
    """Score one prompt at a time, padded to 2,048 tokens, with logits of the whole vocabulary at all positions."""
    for place, (prefix, candidate) in enumerate(
        (p, c) for p, own in zip(prompts.prefixes, prompts.candidates) for c in own
    ):
        ids, lengths = _padded([[*prefix, *candidate]], parts.backbone, FIXED_WIDTH)
        logits = parts.backbone.lm(input_ids=ids, attention_mask=_mask(lengths, FIXED_WIDTH), use_cache=False).logits
        answers = logits[0, len(prefix) + len(candidate) - 1, [parts.yes_id, parts.no_id]].float()
        yield answers[:1] - answers[1:], [place]


def work_of_authors(parts: PromptedBackbone, n_prompts: int, dense: bool) -> Work:
    """Count the work of `authors_passes`."""
    return full_logits_work(n_prompts, parts.backbone.vocab_size, dense=dense)


def _log_odds(parts: PromptedBackbone, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Compute log-odds at the last token of each row in float32, since half precision would tie them. [N]"""
    last = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    weight: Any = parts.backbone.output_head.weight
    with torch.autocast(hidden.device.type, enabled=False):
        logits = F.linear(last.float(), weight[[parts.yes_id, parts.no_id]].float())
    return logits[:, 0] - logits[:, 1]


def _padded(sections: Sequence[Sequence[int]], backbone: Backbone, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the ids [N, width] of sections padded on the right, and their lengths [N]."""
    lengths = list(map(len, sections))
    width = width or max(lengths)
    ids = [[*section, *[backbone.pad_id] * (width - len(section))] for section in sections]
    return torch.tensor(ids, device=backbone.device), torch.tensor(lengths, device=backbone.device)


def _mask(lengths: Tensor, width: int) -> Tensor:
    """Return 1 for tokens and 0 for padding. [N, width]"""
    return (torch.arange(width, device=lengths.device) < lengths[:, None]).long()
