"""Attention over shared-prefix rows: the prefix attends causally to itself, a candidate to the prefix and itself.

For a token of a candidate, one softmax covers the prefix keys, which all candidates share without a copy, and the keys
of the candidate. No T x T mask exists: P + C * c tokens cost P * P / 2 + C * c * (P + c / 2) scores.

The function is registered with transformers' attention interface as "shared_prefix". The layout and the back-end are
passed as a keyword argument, `decoder(..., shared_prefix=PrefixAttention(...))`, and not as state, so that they are
available when gradient checkpointing recomputes a layer. Without this argument the function computes ordinary attention
(by transformers' SDPA function if that supports the arguments), so that one setting serves shared-prefix rows, plain
rows and `generate()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from recbole_llmtrsr.engine.attention.flash import flash_attention
from recbole_llmtrsr.engine.attention.flex import flex_shared_prefix
from recbole_llmtrsr.engine.attention.split import split_attention
from recbole_llmtrsr.engine.attention.terms import States, Terms
from recbole_llmtrsr.engine.rows import KeysAndValues, SharedPrefixRows

SHARED_PREFIX = "shared_prefix"
BACKENDS: Mapping[str, Callable[[States, SharedPrefixRows, Terms], Tensor]] = {
    "flash": flash_attention,
    "flex": flex_shared_prefix,
    "split": split_attention,
}


def backends_for(device: torch.device) -> tuple[str, ...]:
    """Names of the back-ends to try on a device, fastest first."""
    return {"cpu": ("flash", "split"), "cuda": ("flex", "split")}.get(device.type, ("split",))


@dataclass(frozen=True)
class PrefixAttention:
    """Layout and back-end, the additional input of shared-prefix attention.

    Attributes:
        rows: the layout.
        backend: a key of `BACKENDS`.
    """

    rows: SharedPrefixRows
    backend: str


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prefix: PrefixAttention | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention function with the signature of transformers' attention interface.

    Args:
        module: the attention layer.
        query: queries of shared-prefix rows [1, H, N, d], or of other rows [B, H, T, d].
        key: keys [1, H_kv, N, d]; H_kv divides H (grouped-query attention).
        value: values [1, H_kv, N, d_v].
        attention_mask: ignored for shared-prefix rows, whose layout replaces it.
        scaling: factor of the attention scores; None is 1 / sqrt(d).
        dropout: dropout probability of attention weights.
        shared_prefix: layout and back-end; None for all other rows.
        sliding_window: a token attends only to keys less than this many positions before it.
        softcap: scores are squashed into (-softcap, softcap).
        s_aux: attention sinks, one score per head. [H]
        **kwargs: further arguments of transformers, which shared-prefix attention must not need.

    Returns:
        [1, N, H, d_v], and None in place of attention weights.

    Raises:
        NotImplementedError: the backbone passes an argument that this attention does not support.
    """
    if shared_prefix is None:
        if softcap is not None or s_aux is not None:
            scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
            return _ordinary(query, key, value, attention_mask, scaling, dropout, softcap, s_aux), None
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout, scaling, sliding_window=sliding_window, **kwargs
        )
    _refuse_unsupported(module, query, key, kwargs)
    # Under autocast, rotated queries and keys are float32 and values have the autocast format.
    query, key = query.to(value.dtype), key.to(value.dtype)
    rows = shared_prefix.rows
    n = rows.n_prefix_tokens
    prefix: KeysAndValues = (key[:, :, :n], value[:, :, :n])
    if rows.kept is not None:
        if n or module not in rows.kept:
            rows.kept[module] = (prefix[0].clone(), prefix[1].clone())
        prefix = rows.kept[module]
    terms = Terms(
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        dropout=dropout,
        window=sliding_window,
        softcap=softcap,
        sinks=s_aux,
    )
    states = States(query, prefix, (key[:, :, n:], value[:, :, n:]))
    return BACKENDS[shared_prefix.backend](states, rows, terms), None


def _ordinary(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    dropout: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention over ordinary rows with soft caps and sinks, which PyTorch's lacks.

    Computes softmax(cap(q k^T * scaling) + mask, sinks) v.

    Args:
        mask: [B, 1, T, S], True where visible; None is causal, with the last query aligned to the last key.
    """
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = (query @ key.transpose(-1, -2) * scaling).float()
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        n_queries, n_keys = scores.shape[-2:]
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query.device).tril(n_keys - n_queries)
    # Not -inf, because a row of padding may have no visible key.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        sink = sinks.float()[:, None, None].expand(*scores.shape[:-1], 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    return (F.dropout(weights.to(value.dtype), dropout) @ value).transpose(1, 2)


def _refuse_unsupported(module: nn.Module, query: Tensor, key: Tensor, kwargs: Mapping[str, Any]) -> None:
    unsupported = [name for name in ("position_bias", "cache") if kwargs.get(name) is not None]
    if kwargs.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        unsupported.append("is_causal=False")
    if unsupported:
        raise NotImplementedError(f"shared-prefix attention does not support {', '.join(unsupported)}")
    if query.shape[2] != key.shape[2]:
        raise NotImplementedError("shared-prefix attention does not support a key-value cache: pass use_cache=False")


ALL_ATTENTION_FUNCTIONS.register(SHARED_PREFIX, shared_prefix_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(SHARED_PREFIX, sdpa_mask)
