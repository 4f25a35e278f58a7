"""Split attention in plain tensor operations, for every device, with dropout, windows, soft caps, sinks and autograd.

For the tokens of a slot, one softmax covers the keys of the prefix, which all slots share without a copy, and the keys
of the slot. The prefix itself is a single slot without shared keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llmtrsr.engine.attention.terms import States, Terms
from recbole_llmtrsr.engine.rows import KeysAndValues, SharedPrefixRows

# A few key heads are processed at a time, at least one, so that their scores stay in the cache of a CPU. On other
# devices this only bounds memory (1 GiB of float32 scores).
_MAX_SCORES_AT_ONCE = {"cpu": 2**19}
_MAX_SCORES_AT_ONCE_ELSEWHERE = 2**28


def split_attention(states: States, rows: SharedPrefixRows, terms: Terms) -> Tensor:
    """Attention output of all tokens in the row. [1, N, H, d_v]"""
    on_prefixes, on_candidates = [], []
    for extent, prefix_query, parts in states.by_history(rows):
        prefix: KeysAndValues = (parts.prefix[0][0], parts.prefix[1][0])
        if prefix_query.shape[2]:
            nothing: KeysAndValues = (prefix[0][:, :0], prefix[1][:, :0])
            own: KeysAndValues = (prefix[0][:, None], prefix[1][:, None])
            on_prefixes.append(_slots(prefix_query[0][:, None], nothing, own, terms)[:, 0])
        if extent.n_slots:
            slots, shape = rows.slots[extent.candidates], (extent.n_slots, extent.slot_width)
            q, k, v = (_grid(x[0], None if extent.is_even else slots, shape) for x in (parts.query, *parts.own))
            out = _slots(q, prefix, (k, v), terms).flatten(1, 2)  # [H, C * c, d_v]
            on_candidates.append(out if extent.is_even else out[:, slots])
    return torch.cat(on_prefixes + on_candidates, dim=1).transpose(0, 1)[None]


def _grid(x: Tensor, slots: Tensor | None, shape: tuple[int, int]) -> Tensor:
    """Reshape [H, M, d] to [H, C, c, d], with zeros for padding."""
    if slots is not None:
        x = x.new_zeros(len(x), shape[0] * shape[1], x.shape[-1]).index_copy(1, slots, x)
    return x.reshape(len(x), *shape, x.shape[-1])


def _slots(query: Tensor, shared: KeysAndValues, own: KeysAndValues, terms: Terms) -> Tensor:
    """Attention of slots [H, C, c, d] to shared [H_kv, P, d] and individual keys [H_kv, C, c, d]. [H, C, c, d_v]"""
    n_kv, n_slots, width, _ = own[0].shape
    group, n_shared = len(query) // n_kv, shared[0].shape[1]
    hidden = _hidden(n_shared, width, terms.window, query.device)
    budget = _MAX_SCORES_AT_ONCE.get(query.device.type, _MAX_SCORES_AT_ONCE_ELSEWHERE)
    n_heads = max(1, budget // (group * n_slots * width * (n_shared + width)))
    grouped = query.view(n_kv, group, *query.shape[1:])
    sinks = query.new_empty(n_kv, 0) if terms.sinks is None else terms.sinks.view(n_kv, group)
    parts = []
    for begin in range(0, n_kv, n_heads):
        heads = slice(begin, begin + n_heads)
        some_shared, some_own = (shared[0][heads], shared[1][heads]), (own[0][heads], own[1][heads])
        parts.append(_few_heads(grouped[heads], some_shared, some_own, sinks[heads], hidden, terms))
    return torch.cat(parts)


def _few_heads(
    query: Tensor, shared: KeysAndValues, own: KeysAndValues, sinks: Tensor, hidden: Tensor, terms: Terms
) -> Tensor:
    """Attention of [h, group, C, c, d] to [h, P, d] and [h, C, c, d]. [h * group, C, c, d_v]"""
    n_kv, group, n_slots, width, dim = query.shape
    n_shared = shared[0].shape[1]
    # Query heads that share a key head become further query rows of that head, so that no key is repeated.
    q = (query * terms.scaling).transpose(1, 2).reshape(n_kv, n_slots, group * width, dim)
    on_shared = (q.flatten(1, 2) @ shared[0].transpose(-1, -2)).view(n_kv, n_slots, group * width, n_shared)
    scores = torch.cat([on_shared, q @ own[0].transpose(-1, -2)], dim=-1).float()
    scores = scores.view(n_kv, n_slots, group, width, -1)
    if terms.softcap is not None:
        scores = terms.softcap * torch.tanh(scores / terms.softcap)
    scores = scores.masked_fill(hidden, float("-inf"))
    if sinks.numel():
        sink = sinks.float()[:, None, :, None, None].expand(n_kv, n_slots, group, width, 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    weights = F.dropout(weights.to(own[1].dtype).flatten(2, 3), terms.dropout)  # [h, C, group * c, P + c]
    out = weights[..., n_shared:] @ own[1]
    out = out + (weights[..., :n_shared].flatten(1, 2) @ shared[1]).view(out.shape)
    return out.view(n_kv, n_slots, group, width, -1).transpose(1, 2).flatten(0, 1)


def _hidden(n_shared: int, width: int, window: int | None, device: torch.device) -> Tensor:
    """Keys that are hidden from a token of a slot, the shared ones first. bool [c, P + c]"""
    offset = torch.arange(width, device=device)[:, None]
    to_shared = n_shared + offset - torch.arange(n_shared, device=device)
    distance = torch.cat([to_shared, offset - offset.T], dim=1)  # in positions, from key to token
    return (distance < 0) | (distance >= window) if window is not None else distance < 0
