"""Attention over ordinary rows with what PyTorch's lacks: soft caps and sinks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ordinary_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scaling: float,
    dropout: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """softmax(cap(q k^T * scaling) + mask, sinks) v.

    Args:
        query: [B, H, T, d].
        key: [B, H_kv, S, d].
        value: [B, H_kv, S, d_v].
        mask: [B, 1, T, S], True where visible; None is causal, with the last query at the last key.
        scaling: of the scores.
        dropout: probability of dropping a weight.
        softcap: scores are squashed into (-softcap, softcap).
        sinks: one more score per head that takes weight and gives nothing. [H]

    Returns:
        [B, T, H, d_v].
    """
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = (query @ key.transpose(-1, -2) * scaling).float()
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        n_queries, n_keys = scores.shape[-2:]
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query.device).tril(n_keys - n_queries)
    # Not -inf: a row of padding may see nothing at all.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        sink = sinks.float()[:, None, None].expand(*scores.shape[:-1], 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    return (F.dropout(weights.to(value.dtype), dropout) @ value).transpose(1, 2)
