"""Attention over shared-prefix rows: the prefix attends causally to itself, a candidate to the prefix and itself.

For a query of slot s, one softmax runs over the prefix keys (shared by all slots, never copied) and the keys of
slot s. No T x T mask exists: a row of P + C*c tokens costs P*P/2 + C*c*(P + c) scores.

Registered with transformers' attention interface as "shared_prefix". The layout travels as a keyword argument,
`decoder(..., shared_prefix=rows)`, and not as state, so gradient checkpointing's recomputation sees it too. Without
that argument the function is transformers' own SDPA attention, so one setting serves shared rows, plain rows and
`generate()`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from recbole_llmtrsr.model.rows import SharedPrefixRows

SHARED_PREFIX = "shared_prefix"
# Rows are attended to a few at a time: on a CPU their scores then stay in cache (1.6 times faster than all at once, 7 %
# of a forward pass of the embedded model), elsewhere it only bounds memory (float32 scores: 1 GiB).
_MAX_SCORES_AT_ONCE = {"cpu": 2**19}
_MAX_SCORES_AT_ONCE_ELSEWHERE = 2**28


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prefix: SharedPrefixRows | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function in the signature of transformers' attention interface.

    Args:
        query: [1, H, N, d], the real tokens of all rows; [B, H, T, d] without a layout.
        key: [1, H_kv, N, d]; H_kv divides H (grouped-query attention).
        value: [1, H_kv, N, d_v].
        attention_mask: ignored for shared rows, which need no mask beyond their layout.
        shared_prefix: the layout; None for every other kind of row.
        sliding_window: a token sees only keys less than this many positions before it.

    Returns:
        [1, N, H, d_v], and None in place of attention weights.

    Raises:
        NotImplementedError: the backbone asks for something that this attention does not compute.
    """
    if shared_prefix is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout, scaling, sliding_window=sliding_window, **kwargs
        )
    _refuse_unsupported(module, query, key, kwargs)
    rows, width = shared_prefix, shared_prefix.prefix_width
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (rows.padded(x.transpose(1, 2)).transpose(1, 2) for x in (query, key, value))  # [B, H, T, d]

    prefix_out, _ = sdpa_attention_forward(
        module,
        query[:, :, :width],
        key[:, :, :width],
        value[:, :, :width],
        _prefix_window_mask(width, sliding_window, query.device),
        dropout,
        scaling,
        is_causal=True,
    )  # [B, P, H, d_v]
    bias = candidate_bias(rows, sliding_window)  # [B, c, P + c]
    scores_per_row = query.shape[1] * rows.n_slots * rows.slot_width * bias.shape[-1]
    budget = _MAX_SCORES_AT_ONCE.get(query.device.type, _MAX_SCORES_AT_ONCE_ELSEWHERE)
    n_rows = max(1, budget // scores_per_row)
    candidate_out = torch.cat(
        [
            _candidate_attention(q, k, v, b, rows, scaling, dropout)
            for q, k, v, b in zip(*(torch.split(x, n_rows) for x in (query, key, value, bias)))
        ]
    )  # [B, C * c, H, d_v]
    return rows.packed(torch.cat([prefix_out, candidate_out], dim=1)), None


def candidate_bias(rows: SharedPrefixRows, sliding_window: int | None = None) -> Tensor:
    """What the tokens of one slot may see: 0 where visible, -inf elsewhere.

    Returns:
        float32 [B, c, P + c]: first the prefix keys, then the slot's own keys; the same for every slot.
    """
    device, lengths = rows.input_ids.device, rows.prefix_lengths[:, None, None]
    offset = torch.arange(rows.slot_width, device=device)
    prefix_key = torch.arange(rows.prefix_width, device=device)
    on_prefix = (prefix_key < lengths).expand(-1, rows.slot_width, -1)  # [B, c, P]
    on_self = offset <= offset[:, None]  # [c, c]
    if sliding_window is not None:
        on_prefix = on_prefix & (lengths + offset[:, None] - prefix_key < sliding_window)
        on_self = on_self & (offset[:, None] - offset < sliding_window)
    visible = torch.cat([on_prefix, on_self.expand(len(rows.prefix_lengths), -1, -1)], dim=-1)
    return torch.zeros(visible.shape, device=device).masked_fill_(~visible, float("-inf"))


def _candidate_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, rows: SharedPrefixRows, scaling: float, dropout: float
) -> Tensor:
    """softmax([q K_prefix^T, q K_own^T] * scaling + bias) [V_prefix; V_own], [b, C * c, H, d_v]."""
    width, n_slots, slot_width = rows.prefix_width, rows.n_slots, rows.slot_width
    n_rows, n_heads, _, dim = query.shape
    n_kv = key.shape[1]
    group = n_heads // n_kv
    # The query heads that share a key head become more query rows of that head, so no key is repeated.
    q = query[:, :, width:].view(n_rows, n_kv, group, n_slots, slot_width, dim).transpose(2, 3) * scaling
    q = q.reshape(n_rows, n_kv, n_slots, group * slot_width, dim)
    own_key, own_value = (x[:, :, width:].reshape(n_rows, n_kv, n_slots, slot_width, x.shape[-1]) for x in (key, value))

    on_prefix = q.flatten(2, 3) @ key[:, :, :width].transpose(-1, -2)
    on_self = q @ own_key.transpose(-1, -2)
    scores = torch.cat([on_prefix.view(*q.shape[:-1], width), on_self], dim=-1).float()
    scores = scores.view(n_rows, n_kv, n_slots, group, slot_width, -1) + bias[:, None, None, None]
    weights = scores.softmax(dim=-1).to(value.dtype).flatten(3, 4)  # [b, H_kv, C, group * c, P + c]
    if dropout:
        weights = F.dropout(weights, dropout)

    out = weights[..., width:] @ own_value
    out = out + (weights[..., :width].flatten(2, 3) @ value[:, :, :width]).view(out.shape)
    out = out.view(n_rows, n_kv, n_slots, group, slot_width, -1).permute(
        0, 2, 4, 1, 3, 5
    )  # [b, C, c, H_kv, group, d_v]
    return out.reshape(n_rows, n_slots * slot_width, n_heads, -1)


def _prefix_window_mask(width: int, sliding_window: int | None, device: torch.device) -> Tensor | None:
    """Boolean [1, 1, P, P] where a window is shorter than the prefix, otherwise None (plain causal attention)."""
    if sliding_window is None or sliding_window >= width:
        return None
    position = torch.arange(width, device=device)
    distance = position[:, None] - position
    return ((distance >= 0) & (distance < sliding_window))[None, None]


def _refuse_unsupported(module: nn.Module, query: Tensor, key: Tensor, kwargs: dict[str, Any]) -> None:
    unsupported = [name for name in ("softcap", "s_aux", "position_bias", "cache") if kwargs.get(name) is not None]
    if kwargs.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        unsupported.append("is_causal=False")
    if unsupported:
        raise NotImplementedError(f"shared-prefix attention does not compute {', '.join(unsupported)}")
    if query.shape[2] != key.shape[2]:
        raise NotImplementedError("shared-prefix attention reads no key-value cache: pass use_cache=False")


ALL_ATTENTION_FUNCTIONS.register(SHARED_PREFIX, shared_prefix_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(SHARED_PREFIX, sdpa_mask)
