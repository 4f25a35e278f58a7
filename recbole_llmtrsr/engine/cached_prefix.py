"""Scores candidates with a cached prefix, using the cache and attention of the backbone itself.

This serves backbones whose attention the shared-prefix layout cannot compute: ALiBi, chunked attention, and layers with
a recurrent state in place of keys and values.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from recbole_llmtrsr.engine.rows import GroupedPrompts, TokenIds, pad_right
from recbole_llmtrsr.engine.scoring import log_odds
from recbole_llmtrsr.engine.token_batches import candidate_chunks
from recbole_llmtrsr.llm.backbone import Backbone


def score_cached_prefix(
    backbone: Backbone, prompts: GroupedPrompts, yes_id: int, no_id: int, max_tokens: int
) -> Tensor:
    """Score every candidate; the backbone reads each prefix once.

    Histories are scored one at a time, so that no cache holds padding, which windows, recurrent states and ALiBi would
    count as tokens.

    Args:
        max_tokens: bound on (prefix + longest candidate) x candidates in one forward pass; a single candidate always
            fits.

    Returns:
        float32 [B, C]; -inf where a history has fewer candidates.

    Raises:
        ValueError: as `GroupedPrompts.counts`.
        RuntimeError: gradients are enabled, or the backbone returns no cache.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("a cached prefix has no gradients: score under torch.no_grad(), or train on plain rows")
    counts, pairs = prompts.counts, zip(prompts.prefixes, prompts.candidates)
    hidden = [_hidden_at_answers(backbone, prefix, own, max_tokens) for prefix, own in pairs if len(own)]
    scores = log_odds(backbone, torch.cat(hidden), yes_id, no_id)
    valid = torch.arange(int(counts.max())) < torch.from_numpy(counts)[:, None]
    table = scores.new_full(valid.shape, float("-inf"))
    return table.masked_scatter(valid.to(scores.device), scores)


def _hidden_at_answers(backbone: Backbone, prefix: TokenIds, candidates: Sequence[TokenIds], max_tokens: int) -> Tensor:
    """Hidden states at the last token of each candidate of one history. [C, H]"""
    kept = _read(backbone, prefix) if len(prefix) else {}
    parts, order = [], []
    for chunk in candidate_chunks(list(map(len, candidates)), len(prefix), max_tokens, padded=True):
        # Right padding is invisible to causal layers and comes after every state that is read.
        ids, lengths = pad_right([candidates[i] for i in chunk], backbone.pad_id)
        hidden = backbone.decoder(
            input_ids=torch.from_numpy(ids).to(backbone.device),
            use_cache=bool(kept),
            **_positions(backbone, range(len(prefix), len(prefix) + ids.shape[1])),
            **{name: _expanded(cache, len(chunk)) for name, cache in kept.items()},
        ).last_hidden_state  # [n, width, H]
        parts.append(hidden[torch.arange(len(chunk)), torch.from_numpy(lengths - 1)])
        order += chunk
    return torch.cat(parts)[torch.tensor(order).argsort()]


def _read(backbone: Backbone, prefix: TokenIds) -> dict[str, Any]:
    """Return the decoder's cache of a prefix, under the name of the argument that accepts it."""
    output = backbone.decoder(input_ids=torch.tensor([list(prefix)], device=backbone.device), use_cache=True)
    # Pure state-space models call theirs `cache_params`.
    kept = {name: output[name] for name in ("past_key_values", "cache_params") if output.get(name) is not None}
    if not kept:
        raise RuntimeError(
            f"backbone {backbone.name!r} cannot cache keys, values or states of a prefix: use plain rows"
        )
    return kept


def _positions(backbone: Backbone, positions: range) -> dict[str, Tensor]:
    """Return positions if the decoder accepts them; without them, some (Bamba) count from 0 after a cached prefix."""
    if "position_ids" not in inspect.signature(backbone.decoder.forward).parameters:
        return {}
    return {"position_ids": torch.tensor([list(positions)], device=backbone.device)}


def _expanded(cache: Cache, n: int) -> Any:
    """Copy the cache for n candidates, since the decoder overwrites the cache that it receives."""
    cache = copy.deepcopy(cache)
    first = torch.zeros(n, dtype=torch.long)
    # Every cache can be reordered for beam search, but layers with states lack `batch_repeat_interleave`.
    for part in cache.layers if type(cache) is DynamicCache else [cache]:
        if type(part) in (DynamicLayer, DynamicSlidingWindowLayer) and part.keys is not None:
            # These layers copy their keys when they append, so an expanded view is enough.
            part.keys, part.values = (x.expand(n, *x.shape[1:]) for x in (part.keys, part.values))
        else:
            part.reorder_cache(first)
    return cache
