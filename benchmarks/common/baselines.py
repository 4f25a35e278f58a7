"""The other ways to score: as the authors do, plain rows, and a cached prefix copied for each of its candidates.

Written as one would without this package, on transformers' own SDPA attention. Each gives scores [B, C] and the work
that it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from common.prompts import Prompts
from torch import Tensor

from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.assembly import PromptedBackbone
from recbole_llmtrsr.model.operations import FIXED_WIDTH, Work, cached_prefix_work, full_logits_work, plain_work
from recbole_llmtrsr.model.rows import plain_rows
from recbole_llmtrsr.model.scoring import score_plain


def score_rows(parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    """`size` rows at a time, in the order of their lengths, padded to the longest of them."""
    rows = plain_rows(prompts.prefixes, prompts.candidates, parts.backbone.pad_id)
    order = rows.answer_positions.argsort()
    by_length = {
        name: getattr(rows, name)[order]
        for name in ("input_ids", "attention_mask", "answer_positions", "history", "candidate")
    }
    return score_plain(parts.backbone, replace(rows, **by_length), parts.yes_id, parts.no_id, size)


def work_of_rows(prompts: Prompts, size: int, dense: bool) -> Work:
    """Of `score_rows`."""
    lengths = sorted(prompts.row_lengths())
    batches = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    # Rows of one length need no mask, and then the kernel skips what lies ahead.
    works = (plain_work(len(rows), max(rows), dense=dense and len(set(rows)) > 1) for rows in batches)
    return sum(works, Work())


def score_cached(parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    """`size` histories at a time: keys and values of the prefix once, then copied for each of its candidates."""
    return torch.cat([_cached(parts, part) for part in prompts.parts(size)])


def _cached(parts: PromptedBackbone, part: Prompts) -> Tensor:
    backbone = parts.backbone
    prefixes, prefix_mask = _padded(part.prefixes, backbone)
    past = backbone.decoder(input_ids=prefixes, attention_mask=prefix_mask, use_cache=True).past_key_values
    n = len(part.candidates[0])
    past.batch_repeat_interleave(n)
    ids, mask = _padded([c for own in part.candidates for c in own], backbone)
    begins = prefix_mask.sum(1).repeat_interleave(n)
    hidden = backbone.decoder(
        input_ids=ids,
        attention_mask=torch.cat([prefix_mask.repeat_interleave(n, 0), mask], 1),
        position_ids=begins[:, None] + torch.arange(ids.shape[1], device=ids.device),
        past_key_values=past,
        use_cache=True,
    ).last_hidden_state
    last = hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
    weight: Any = backbone.output_head.weight
    logits = F.linear(last.float(), weight[[parts.yes_id, parts.no_id]].float())
    return (logits[:, 0] - logits[:, 1]).view(-1, n)


def work_of_cached(prompts: Prompts, size: int, dense: bool) -> Work:
    """Of `score_cached`."""
    total = Work()
    for part in prompts.parts(size):
        width = max(part.section_lengths())
        one = cached_prefix_work(max(map(len, part.prefixes)), len(part.candidates[0]), width)
        total += one * len(part.prefixes)
    return total


def score_as_authors(parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    """One prompt at a time, padded to 2,048 tokens; the whole vocabulary at all positions, then the two answers."""
    scores = []
    for prefix, own in zip(prompts.prefixes, prompts.candidates):
        for candidate in own:
            ids, mask = _padded([[*prefix, *candidate]], parts.backbone, FIXED_WIDTH)
            logits = parts.backbone.lm(input_ids=ids, attention_mask=mask, use_cache=False).logits
            answers = logits[0, len(prefix) + len(candidate) - 1, [parts.yes_id, parts.no_id]].float()
            scores.append(answers[0] - answers[1])
    return torch.stack(scores).view(len(prompts.prefixes), -1)


def work_of_authors(parts: PromptedBackbone, n_prompts: int, dense: bool) -> Work:
    """Of `score_as_authors`."""
    return full_logits_work(n_prompts, parts.backbone.vocab_size, dense=dense)


def _padded(sections: Sequence[Sequence[int]], backbone: Backbone, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Ids and mask of sections padded on the right. [N, width]"""
    width = width or max(map(len, sections))
    ids = [[*section, *[backbone.pad_id] * (width - len(section))] for section in sections]
    mask = [[1] * len(section) + [0] * (width - len(section)) for section in sections]
    return torch.tensor(ids, device=backbone.device), torch.tensor(mask, device=backbone.device)
