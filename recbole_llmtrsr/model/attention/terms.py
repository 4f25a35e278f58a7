"""What one attention layer is asked to compute."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from recbole_llmtrsr.model.rows import KeysAndValues


@dataclass(frozen=True)
class Terms:
    """How a layer weighs keys.

    Attributes:
        scaling: of the scores.
        dropout: probability of dropping a weight.
        window: a token sees only keys less than this many positions before it.
        softcap: scores are squashed into (-softcap, softcap).
        sinks: one more score per head that takes weight and gives nothing. [H]
    """

    scaling: float
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Nothing but a softmax over scaled scores."""
        return not self.dropout and self.window is None and self.softcap is None and self.sinks is None


@dataclass(frozen=True)
class States:
    """Queries, keys and values of the tokens of shared-prefix rows.

    Attributes:
        query: [1, H, N, d], of the tokens in the row.
        prefix: keys and values of all prefixes, whether their tokens are in the row or were kept from another.
        own: keys and values of all candidates.
    """

    query: Tensor
    prefix: KeysAndValues
    own: KeysAndValues
