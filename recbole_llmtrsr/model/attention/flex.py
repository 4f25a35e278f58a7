"""FlexAttention: the shared-prefix layout as a block mask, in one fused kernel on GPUs.

A token sees the keys of its own history that belong to the prefix or to its own candidate and do not lie ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from recbole_llmtrsr.model.attention.terms import States, Terms
from recbole_llmtrsr.model.rows import SharedPrefixRows

_PREFIX = -1  # in place of a candidate's number


def flex_shared_prefix(states: States, rows: SharedPrefixRows, terms: Terms) -> Tensor:
    """Attention of all tokens in the row. [1, N, H, d_v]

    Raises:
        NotImplementedError: dropout of attention weights.
    """
    if terms.dropout:
        raise NotImplementedError("FlexAttention drops no attention weights")
    key, value = (torch.cat(pair, dim=2) for pair in zip(states.prefix, states.own))
    name = ("flex", terms.window)
    if name not in rows.derived:
        rows.derived[name] = _block_mask(rows, terms.window, states.query.device)
    result: Any = _compiled(states.query.device)(
        states.query,
        key,
        value,
        score_mod=None if terms.softcap is None else _squash(terms.softcap),
        block_mask=rows.derived[name],
        scale=terms.scaling,
        enable_gqa=states.query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=terms.sinks is not None),
    )
    out, aux = result
    if terms.sinks is not None:
        out = out * torch.sigmoid(aux.lse - terms.sinks[:, None])[..., None].to(out.dtype)
    return out.transpose(1, 2)  # type: ignore[no-any-return]


def _squash(softcap: float) -> Callable[..., Tensor]:
    def squashed(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return squashed


def _block_mask(rows: SharedPrefixRows, window: int | None, device: torch.device) -> BlockMask:
    prefix, own = _labels(rows)
    keys = torch.cat([prefix, own], dim=1).to(device)
    queries = torch.cat([prefix[:, : rows.n_prefix_tokens], own], dim=1).to(device)
    # One by one: a compiled mask looks single numbers up.
    history, candidate, position = queries.unbind()
    key_history, key_candidate, key_position = keys.unbind()

    def visible(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same_slot = (key_candidate[k] == _PREFIX) | (key_candidate[k] == candidate[q])
        distance = position[q] - key_position[k]
        seen = (history[q] == key_history[k]) & same_slot & (distance >= 0)
        return seen if window is None else seen & (distance < window)

    return create_block_mask(visible, None, None, queries.shape[1], keys.shape[1], device=str(device))


def _labels(rows: SharedPrefixRows) -> tuple[Tensor, Tensor]:
    """History, candidate and position of every prefix token [3, tokens] and of every candidate token."""
    slots = rows.slots.cpu()
    prefixes, candidates = [], []
    for b, extent in enumerate(rows.extents):
        n = extent.prefix_length
        prefixes.append(torch.stack([torch.full((n,), b), torch.full((n,), _PREFIX), torch.arange(n)]))
        own = slots[extent.candidates]
        width = max(extent.slot_width, 1)
        candidates.append(torch.stack([torch.full_like(own, b), own // width, n + own % width]))
    return torch.cat(prefixes, dim=1), torch.cat(candidates, dim=1)


def _compiled(device: torch.device) -> Callable[..., Any]:
    """The fused kernel on a GPU; elsewhere the same arithmetic unfused, for which it would have to be compiled too."""
    if device.type != "cuda":
        return flex_attention
    global _fused
    if _fused is None:
        _fused = torch.compile(flex_attention, dynamic=True)
    return _fused


_fused: Callable[..., Any] | None = None
