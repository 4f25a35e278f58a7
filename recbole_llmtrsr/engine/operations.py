"""Floating-point operations of a forward pass, counted from the modules of a backbone and the layout of its rows.

    operations = tokens * per_token + pairs * per_pair + logits * per_logit

per_token is twice the elements of every linear weight of the decoder, per_pair 4 * heads * head size for every layer
(for a query and a key: one product for the score, one for the value), per_logit twice the hidden size. Normalization,
activations, softmax and look-ups are left out: they are no matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from recbole_llmtrsr.llm.backbone import Backbone

FIXED_WIDTH = 2048


@dataclass(frozen=True)
class Work:
    """The work of a backbone for some rows.

    Attributes:
        tokens: tokens that pass the decoder.
        pairs: (query, key) pairs of its attention, in one layer.
        logits: elements of the output head's result.
    """

    tokens: int = 0
    pairs: int = 0
    logits: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.pairs + other.pairs, self.logits + other.logits)

    def __mul__(self, times: int) -> Work:
        return Work(self.tokens * times, self.pairs * times, self.logits * times)


@dataclass(frozen=True)
class OperationCosts:
    """Operations that a backbone takes per unit of `Work`."""

    per_token: int
    per_pair: int
    per_logit: int

    @classmethod
    def of(cls, backbone: Backbone) -> OperationCosts:
        """Read them from the modules; LoRA's low-rank layers count too, whatever they are merged with.

        A layer with a sliding window is counted as if it saw everything.

        Raises:
            ValueError: no attention, or a weight of unknown use, such as the experts of a mixture.
        """
        config = backbone.config
        if not getattr(config, "num_attention_heads", None):
            raise ValueError("operations cannot be counted: the backbone's config names no attention heads")
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        head: Any = backbone.output_head
        return cls(
            per_token=2 * _linear_elements(backbone.decoder),
            per_pair=4 * config.num_attention_heads * head_size * config.num_hidden_layers,
            per_logit=2 * head.weight.shape[-1],
        )

    def operations(self, work: Work) -> int:
        """Operations of a forward pass."""
        return work.tokens * self.per_token + work.pairs * self.per_pair + work.logits * self.per_logit


def shared_prefix_work(prefix_length: int, candidate_lengths: Sequence[int]) -> Work:
    """One history: its prefix and candidates once, without padding; the least that exact scores take.

    A candidate of c tokens sees the P of the prefix and, causally, itself: c * P + c * (c + 1) / 2 pairs.
    """
    tokens = sum(candidate_lengths)
    pairs = _causal(prefix_length) + prefix_length * tokens + sum(n * (n + 1) // 2 for n in candidate_lengths)
    return Work(prefix_length + tokens, pairs, 2 * len(candidate_lengths))


def plain_work(n_rows: int, width: int, *, dense: bool = False) -> Work:
    """Rows of `width` tokens, padding included, with two logits at the last token of each.

    Args:
        dense: count all width * width pairs, as attention under a mask computes them; otherwise the causal half.
    """
    return Work(n_rows * width, n_rows * (width * width if dense else _causal(width)), 2 * n_rows)


def full_logits_work(
    n_rows: int, vocab_size: int, width: int = FIXED_WIDTH, *, all_positions: bool = True, dense: bool = False
) -> Work:
    """Rows of a fixed width with the whole vocabulary's logits, at all positions or at one."""
    plain = plain_work(n_rows, width, dense=dense)
    return Work(plain.tokens, plain.pairs, n_rows * vocab_size * (width if all_positions else 1))


def _causal(n: int) -> int:
    return n * (n + 1) // 2


def _linear_elements(decoder: nn.Module) -> int:
    """Elements of all linear weights, from their sizes: a quantized weight is stored in another shape."""
    total, known = 0, set()
    for module in decoder.modules():
        weights: Any = module
        if isinstance(module, nn.Linear):
            total += module.in_features * module.out_features
        elif isinstance(module, Conv1D):
            total += weights.nx * weights.nf
        if isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            known.add(id(weights.weight))
    unknown = [name for name, weight in decoder.named_parameters() if weight.ndim > 1 and id(weight) not in known]
    if unknown:
        raise ValueError(
            f"operations cannot be counted: {unknown[0]} (one of {len(unknown)}) is the weight of no linear layer or"
            " table; count those of a backbone without experts, convolutions or state spaces"
        )
    return total
