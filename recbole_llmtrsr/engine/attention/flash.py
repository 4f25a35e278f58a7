"""Flash attention in two parts, computed by PyTorch's CPU kernel and merged by log-sum-exp.

    out = (1 - w) * out_prefix + w * out_own,   w = sigmoid(lse_own - lse_prefix)

The candidates of a history attend to its prefix in one call without a mask, and to themselves in a second, causal call
in which each candidate is one row of a batch. Attention scores never reach memory, and only the second part is padded.

In half precision the kernel's forward pass is faster, but its gradients take several times longer. They are computed in
fp32.

The kernel's backward pass needs only the output and log-sum-exp of its forward pass. Given the merged output and
log-sum-exp, it returns the gradients of one part of the joint softmax.

Source: Dao et al. (2022), FlashAttention, section 3; the parts are merged as in online softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llmtrsr.engine.attention.split import split_attention
from recbole_llmtrsr.engine.attention.terms import States, Terms
from recbole_llmtrsr.engine.rows import SharedPrefixRows

# Unlike `scaled_dot_product_attention`, these also return the log-sum-exp. The tensors precede dropout and is_causal.
_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def flash_attention(states: States, rows: SharedPrefixRows, terms: Terms) -> Tensor:
    """Attention output of all tokens in the row. [1, N, H, d]

    Falls back to `split_attention` for what the kernel does not support: dropout, windows, soft caps, sinks, and values
    of another size.

    Raises:
        NotImplementedError: the device is not a CPU.
    """
    if states.query.device.type != "cpu":
        raise NotImplementedError(f"flash attention in two parts runs on a CPU, not on {states.query.device.type}")
    if not terms.is_plain or states.query.shape[-1] != states.own[1].shape[-1]:
        return split_attention(states, rows, terms)
    group = states.query.shape[1] // states.own[0].shape[1]
    keys, values = (
        [_ready(x if group == 1 else x.repeat_interleave(group, dim=1)) for x in pair]
        for pair in zip(states.prefix, states.own, strict=True)
    )
    ready = States(_ready(states.query), (keys[0], values[0]), (keys[1], values[1]))
    on_prefixes, on_candidates = [], []
    with torch.autocast("cpu", enabled=False):
        for extent, prefix_query, own in ready.by_history(rows):
            if prefix_query.shape[2]:
                none = prefix_query.detach()[:, :, :0]
                grid = _Grid((1, extent.prefix_length), None)
                out = _Attention.apply(prefix_query, none, none, *own.prefix, grid, terms.scaling)  # type: ignore[no-untyped-call]
                on_prefixes.append(out.transpose(1, 2))
            if extent.n_slots:
                slots = None if extent.is_even else rows.slots[extent.candidates]
                grid = _Grid((extent.n_slots, extent.slot_width), slots)
                out = _Attention.apply(own.query, *own.prefix, *own.own, grid, terms.scaling)  # type: ignore[no-untyped-call]
                on_candidates.append(out.transpose(1, 2))
    return torch.cat(on_prefixes + on_candidates, dim=1)


@dataclass(frozen=True)
class _Grid:
    """Converts the tokens of a history's candidates to a padded batch and back.

    Attributes:
        shape: number of candidates and tokens of the longest.
        slots: index of each token in the batch; None if all candidates have this length.
    """

    shape: tuple[int, int]
    slots: Tensor | None

    def batch(self, x: Tensor) -> Tensor:
        """[1, H, M, ...] as [C, H, c, ...], with zeros for padding."""
        x = x[0].transpose(0, 1)  # [M, H, ...]
        if self.slots is not None:
            n = self.shape[0] * self.shape[1]
            x = x.new_zeros(n, *x.shape[1:]).index_copy_(0, self.slots, x)
        return x.reshape(*self.shape, *x.shape[1:]).transpose(1, 2)

    def tokens(self, x: Tensor) -> Tensor:
        """[C, H, c, ...] as [1, H, M, ...]."""
        x = x.transpose(1, 2).flatten(0, 1)  # [C * c, H, ...]
        return (x if self.slots is None else x[self.slots]).transpose(0, 1)[None]


class _Attention(torch.autograd.Function):
    """Attention of the candidates of one history [1, H, M, d] to its prefix [1, H, P, d] and to themselves.

    A prefix itself is a single candidate after a prefix of no tokens.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        prefix_key: Tensor,
        prefix_value: Tensor,
        own_key: Tensor,
        own_value: Tensor,
        grid: _Grid,
        scaling: float,
    ) -> Tensor:
        own = [grid.batch(x) for x in (query, own_key, own_value)]
        out, lse = (grid.tokens(x) for x in _kernel(*own, 0.0, True, scale=scaling))
        if prefix_key.shape[2]:
            on_prefix, lse_prefix = _kernel(query, prefix_key, prefix_value, 0.0, False, scale=scaling)
            weight = torch.sigmoid(lse - lse_prefix)[..., None]  # fp32 in half precision, too
            out = torch.lerp(on_prefix.to(weight.dtype), out.to(weight.dtype), weight).to(query.dtype)
            lse = torch.logaddexp(lse_prefix, lse)
        ctx.save_for_backward(query, prefix_key, prefix_value, own_key, own_value, out, lse)
        ctx.grid, ctx.scaling = grid, scaling
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved = ctx.saved_tensors  # which checkpointing allows to be read once
        grad, query, prefix_key, prefix_value, own_key, own_value, out, lse = (
            _ready(x.to(saved[-1].dtype)) for x in (grad, *saved)
        )
        grid: _Grid = ctx.grid
        own = [grid.batch(x) for x in (grad, query, own_key, own_value, out, lse)]
        grads = [grid.tokens(x) for x in _kernel_backward(*own, 0.0, True, scale=ctx.scaling)]
        if not prefix_key.shape[2]:
            return grads[0], None, None, grads[1], grads[2], None, None
        on_prefix = _kernel_backward(grad, query, prefix_key, prefix_value, out, lse, 0.0, False, scale=ctx.scaling)
        return grads[0] + on_prefix[0], on_prefix[1], on_prefix[2], grads[1], grads[2], None, None


def _ready(x: Tensor) -> Tensor:
    """Return x with contiguous vectors, which the kernel requires but does not check."""
    return x if x.stride(-1) == 1 else x.contiguous()
