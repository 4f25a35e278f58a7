"""LLMSeqSim recommends items whose texts resemble those of a user's recent items, without any training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.model.item_vectors import item_vectors


class LLMSeqSim(SequentialRecommender):  # type: ignore[misc]
    """Ranks items by the cosine similarity between their text embedding and the mean embedding of the recent items.

    The option ``text_encoder`` selects the text encoder, and ``n_recent_items`` the number of averaged items.

    Source:
        Harte et al., "Leveraging Large Language Models for Sequential Recommendation" (RecSys 2023), LLMSeqSim.

    Deviation:
        the paper takes embeddings from a commercial service and searches for the best way to combine those of a
        history. Here, items without text score -1, the lowest possible cosine.
    """

    input_type = InputType.POINTWISE
    score_resolution = 2.0**-20  # items of one text are equal, however their products were rounded

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self._n_recent = config.settings.prompt.n_recent_items
        vectors = item_vectors(config, dataset, "text_encoder")
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("has_text", vectors.abs().sum(1) > 0, persistent=False)
        self.nothing = nn.Parameter(torch.zeros(1))  # RecBole's trainer wants something to train

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return a constant loss of 0, because the model has nothing to train."""
        return self.nothing.sum() * 0

    def predict(self, interaction: Interaction) -> Tensor:
        """Cosine for every row. [batch_size]"""
        items = interaction[self.ITEM_ID]
        return torch.where(self.has_text[items], (self._taste(interaction) * self.vectors[items]).sum(1), -1.0)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Cosine with every item. [batch_size * n_items]"""
        return torch.where(self.has_text, self._taste(interaction) @ self.vectors.T, -1.0).view(-1)

    def _taste(self, interaction: Interaction) -> Tensor:
        """Mean vector of the recent items, of length 1. [batch_size, width]"""
        items, n = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        places = torch.arange(items.shape[1], device=items.device)
        is_recent = (places < n[:, None]) & (places >= n[:, None] - self._n_recent)
        return F.normalize((self.vectors[items] * is_recent[..., None]).sum(1), dim=1)
