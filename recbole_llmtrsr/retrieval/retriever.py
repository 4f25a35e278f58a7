"""The protocol of retrievers, and the one that ranks by popularity."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from torch import Tensor


class Retriever(Protocol):
    """Scores the whole catalogue for every history of a batch."""

    def scores(self, interaction: Interaction) -> Tensor:
        """Scores, larger is better; column 0, the padding, has no meaning. fp32 or fp64 [batch_size, n_items]"""

    def report(self) -> dict[str, Any]:
        """Its name and source, for result.json."""


class PopularityRetriever:
    """Scores an item by how often training users chose it, as Pop does.

    Args:
        counts: training events of every item. [n_items]
        device: of the scores.
    """

    def __init__(self, counts: npt.NDArray[np.int64], device: torch.device) -> None:
        self._counts = torch.from_numpy(counts).to(device, torch.float32)

    def scores(self, interaction: Interaction) -> Tensor:
        """The same counts for every history. [batch_size, n_items]"""
        return self._counts.expand(len(interaction), -1)

    def report(self) -> dict[str, Any]:
        """Its name, for result.json."""
        return {"retriever": "Pop"}
