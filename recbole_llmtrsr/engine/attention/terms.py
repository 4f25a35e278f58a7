"""The input of one attention layer: its parameters, and its queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llmtrsr.engine.rows import Extent, KeysAndValues, SharedPrefixRows


@dataclass(frozen=True)
class Terms:
    """Parameters of a layer's attention weights.

    Attributes:
        scaling: factor of the scores.
        dropout: probability of dropping a weight.
        window: a token attends only to keys less than this many positions before it.
        softcap: scores are squashed into (-softcap, softcap).
        sinks: one further score per head, whose weight does not contribute to the output. [H]
    """

    scaling: float
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether attention weights are just the softmax of scaled scores."""
        return not self.dropout and self.window is None and self.softcap is None and self.sinks is None


@dataclass(frozen=True)
class States:
    """Queries, keys and values of the tokens of shared-prefix rows.

    Attributes:
        query: queries of the tokens in the row. [1, H, N, d]
        prefix: keys and values of all prefixes, whose tokens are in the row or in the cache.
        own: keys and values of all candidates.
    """

    query: Tensor
    prefix: KeysAndValues
    own: KeysAndValues

    def by_history(self, rows: SharedPrefixRows) -> Iterator[tuple[Extent, Tensor, States]]:
        """Yield each history's extent, the queries of its prefix (none if it is cached) and its part of the states.

        The tensors are split and not sliced, since the gradient of each slice would have the size of the whole row.
        """
        extents = rows.extents
        prefixes = [extent.prefix_length for extent in extents]
        candidates = [extent.candidates.stop - extent.candidates.start for extent in extents]
        in_row = prefixes if rows.n_prefix_tokens else [0] * len(extents)
        queries = torch.split(self.query, [*in_row, *candidates], dim=2)
        keys_and_values = [
            *(torch.split(x, prefixes, dim=2) for x in self.prefix),
            *(torch.split(x, candidates, dim=2) for x in self.own),
        ]
        for i, (extent, *parts) in enumerate(zip(extents, *keys_and_values, strict=True)):
            yield extent, queries[i], States(queries[len(extents) + i], (parts[0], parts[1]), (parts[2], parts[3]))
