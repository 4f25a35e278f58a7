"""FlexAttention with the shared-prefix layout as a block mask, one fused kernel on GPUs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from recbole_llmtrsr.engine.attention.blocks import PREFIX, Labels, meeting_blocks
from recbole_llmtrsr.engine.attention.split import split_attention
from recbole_llmtrsr.engine.attention.terms import States, Terms
from recbole_llmtrsr.engine.rows import SharedPrefixRows

_BLOCK_SIZE = 128  # the block size of FlexAttention's kernels


def flex_shared_prefix(states: States, rows: SharedPrefixRows, terms: Terms) -> Tensor:
    """Attention output of all tokens in the row. [1, N, H, d_v]

    Falls back to `split_attention` if attention weights are dropped.
    """
    if terms.dropout:
        return split_attention(states, rows, terms)
    key, value = (torch.cat(pair, dim=2) for pair in zip(states.prefix, states.own))
    name = ("flex", terms.window)
    if name not in rows.derived:
        rows.derived[name] = block_mask(rows, terms.window, states.query.device)
    # Sinks need the log-sum-exp, whose argument has another name in older versions of PyTorch.
    with_lse = {"return_aux": flex.AuxRequest(lse=True)} if hasattr(flex, "AuxRequest") else {"return_lse": True}
    result: Any = _kernel(states.query.device.type)(
        states.query,
        key,
        value,
        score_mod=None if terms.softcap is None else _squash(terms.softcap),
        block_mask=rows.derived[name],
        scale=terms.scaling,
        enable_gqa=states.query.shape[1] != key.shape[1],
        **({} if terms.sinks is None else with_lse),
    )
    if terms.sinks is None:
        return result.transpose(1, 2)  # type: ignore[no-any-return]
    out, extra = result
    lse: Tensor = getattr(extra, "lse", extra)
    return (out * torch.sigmoid(lse - terms.sinks[:, None])[..., None].to(out.dtype)).transpose(1, 2)


def block_mask(rows: SharedPrefixRows, window: int | None, device: torch.device) -> flex.BlockMask:
    """The layout as FlexAttention's block mask, for a layer with or without a sliding window."""
    queries, keys = Labels.of(rows)
    some, every = meeting_blocks(queries, keys, _BLOCK_SIZE, window)
    # Separate tensors, because a compiled mask looks up single numbers.
    history, slot, position = (_on(x, device) for x in (queries.history, queries.slot, queries.position))
    key_history, key_slot, key_position = (_on(x, device) for x in (keys.history, keys.slot, keys.position))

    def visible(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        distance = position[q] - key_position[k]
        of_slot = (key_slot[k] == PREFIX) | (key_slot[k] == slot[q])
        seen = (history[q] == key_history[k]) & of_slot & (distance >= 0)
        return seen if window is None else seen & (distance < window)

    return flex.BlockMask.from_kv_blocks(
        *_listed(some & ~every, device),
        *_listed(every, device),
        BLOCK_SIZE=_BLOCK_SIZE,
        mask_mod=visible,
        seq_lengths=(len(queries.history), len(keys.history)),
    )


def _listed(blocks: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Number of key blocks of each query block [1, 1, Q], and all key blocks, with these first [1, 1, Q, K]."""
    order = np.argsort(~blocks, axis=1, kind="stable")
    return _on(blocks.sum(1), device)[None, None], _on(order, device)[None, None]


def _on(x: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(x.astype(np.int32)).to(device, non_blocking=True)


def _squash(softcap: float) -> Callable[..., Tensor]:
    def squashed(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return squashed


@cache
def _kernel(device_type: str) -> Any:
    """The fused kernel on a GPU; elsewhere the same arithmetic without fusion, which stores all attention scores."""
    return torch.compile(flex.flex_attention, dynamic=True) if device_type == "cuda" else flex.flex_attention
