"""Floating-point operations of a forward pass, counted from the modules of a backbone and the layout of its rows.

    operations = tokens * per_token + pairs * per_pair + logits * per_logit

per_token is twice the number of elements of all linear weights of the decoder. per_pair is 4 * heads * head size for
every layer: each pair of a query and a key takes one product for the score and one for the value. per_logit is twice
the hidden size. Normalization, activations, softmax and embedding look-ups are no matrix products and do not count.
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
        tokens: tokens that the decoder reads.
        pairs: (query, key) pairs of the attention of one layer.
        logits: logits that the output head computes.
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
    """Operations of a backbone per unit of `Work`."""

    per_token: int
    per_pair: int
    per_logit: int

    @classmethod
    def of(cls, backbone: Backbone) -> OperationCosts:
        """Count the elements of a backbone's modules, including the low-rank layers of LoRA.

        A layer with a sliding window counts as full attention.

        Raises:
            ValueError: the backbone has no attention, or weights of an unknown kind, such as a mixture of experts.
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
    """Work for one history with its prefix and candidates once and without padding, the minimum for exact scores.

    A candidate of c tokens attends to the P tokens of the prefix and causally to itself: c * P + c * (c + 1) / 2 pairs.
    """
    tokens = sum(candidate_lengths)
    pairs = _causal(prefix_length) + prefix_length * tokens + sum(n * (n + 1) // 2 for n in candidate_lengths)
    return Work(prefix_length + tokens, pairs, 2 * len(candidate_lengths))


def plain_work(n_rows: int, width: int, *, dense: bool = False) -> Work:
    """Work for rows of `width` tokens, including padding, with two logits at the last token of each row.

    Args:
        n_rows: number of rows.
        width: tokens of each row.
        dense: count all width * width pairs, which masked attention computes; otherwise only the causal half.
    """
    return Work(n_rows * width, n_rows * (width * width if dense else _causal(width)), 2 * n_rows)


def full_logits_work(
    n_rows: int, vocab_size: int, width: int = FIXED_WIDTH, *, all_positions: bool = True, dense: bool = False
) -> Work:
    """Work for rows of a fixed width with logits of the whole vocabulary, at all positions or at one."""
    plain = plain_work(n_rows, width, dense=dense)
    return Work(plain.tokens, plain.pairs, n_rows * vocab_size * (width if all_positions else 1))


def _causal(n: int) -> int:
    return n * (n + 1) // 2


def _linear_elements(decoder: nn.Module) -> int:
    """Number of elements of all linear weights, by layer sizes, since quantized weights are stored in another shape."""
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
            f"operations cannot be counted: {unknown[0]} (one of {len(unknown)}) belongs to no linear layer or"
            " embedding; only backbones without experts, convolutions or state spaces are supported"
        )
    return total
