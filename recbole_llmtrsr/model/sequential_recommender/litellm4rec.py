"""Lite-LLM4Rec: a language model reads summary and recent items, and a projection ranks the whole catalogue."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.train_sequences import TARGETS
from recbole_llmtrsr.engine.rows import pad_right
from recbole_llmtrsr.llm.make_backbone import choose_weights, make_backbone
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText
from recbole_llmtrsr.model.item_vectors import initialise_items, item_vectors
from recbole_llmtrsr.model.sequence_recommender import (
    SequenceRecommender,
    check_reads_vectors,
    exact_product,
    freeze_unread,
    read_vectors,
)

_FIRST_DEVIATION = 0.02


class LiteLLM4Rec(SequenceRecommender):
    """Ranks the whole catalogue by projecting the last hidden state, with one forward pass per history.

    The language model reads the tokens of the preference summary and then one vector per recent item, so an item takes
    a single position instead of one per token of its text.

    Attributes:
        item_embedding: vectors of items, shared by the input and the projection.

    Source:
        Wang et al., "Rethinking Large Language Model Architectures for Sequential Recommendations"
        (Lite-LLM4Rec, arXiv 2402.09543): no decoding, an item projection head, hierarchical encoding of items.

    Deviation:
        text embeddings (``text_encoder``), reduced to the model's width and then tuned, replace the language model for
        items; ``vector_dropout`` applies to them in training; the head shares their table; the loss covers all targets
        of a row at once, with the summary of the events before the first target; the summary is that of LLM-TRSR.
    """

    def __init__(self, config: Config, dataset: LLMTRSRDataset) -> None:
        super().__init__(config, dataset)
        settings = config.settings
        texts = [dataset.item(i).line for i in range(dataset.item_num)]
        seen = [*texts, *dataset.summary_sample()]
        self.backbone = make_backbone(settings, lambda: seen, self.device, config["seed"])
        self._plain_text = PlainText(self.backbone.tokenizer)
        check_reads_vectors(self.backbone, self.window + (self._max_summary_tokens if self._with_summary else 0))
        choose_weights(self.backbone, settings)
        freeze_unread(self.backbone, reads_tokens=self._with_summary)
        if settings.backbone.gradient_checkpointing:
            self.backbone.enable_gradient_checkpointing()
        width = int(self.backbone.config.hidden_size)
        self.item_embedding = nn.Embedding(dataset.item_num, width, padding_idx=0)
        nn.init.normal_(self.item_embedding.weight, std=_FIRST_DEVIATION)
        initialise_items(self, item_vectors(config, dataset, "text_encoder"), frozen=False)
        self.entry = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.items.vector_dropout)

    @classmethod
    def window_of(cls, config: Config) -> int:
        """Number of recent events that the model reads: ``n_recent_items``, at most ``MAX_ITEM_LIST_LENGTH``."""
        return min(super().window_of(config), config.settings.prompt.n_recent_items)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Cross-entropy over the catalogue, of all targets of a batch. []"""
        sequence, n, row, place = self.training_sequences(interaction)
        states = self._states(sequence, n, interaction)
        return F.cross_entropy(self._logits(states[row, place]), interaction[TARGETS][interaction[TARGETS] > 0])

    def predict(self, interaction: Interaction) -> Tensor:
        """Logit for every row. [batch_size]"""
        histories, row = self.each_history(interaction)
        candidates = self.item_embedding(interaction[self.ITEM_ID])
        return (self._last_states(histories)[row].float() * candidates.float()).sum(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Logit of every item. [batch_size * n_items]"""
        return self._logits(self._last_states(interaction)).view(-1)

    def _last_states(self, interaction: Interaction) -> Tensor:
        """States after each history. [B, H]"""
        history, n = self.recent(interaction, interaction[self.ITEM_SEQ_LEN])
        return self._states(history, n, interaction)[torch.arange(len(n)), n - 1]

    def _states(self, items: Tensor, n: Tensor, interaction: Interaction) -> Tensor:
        head, mask = self._summary_vectors(interaction)
        events = self.dropout(self.entry(self.item_embedding(items)))
        return read_vectors(self.backbone.decoder, head, mask, events, n)

    def _summary_vectors(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Token embeddings of the summaries and their mask. [B, S, H], [B, S]"""
        rows: list[list[int]] = [[] for _ in range(len(interaction))]
        if self._with_summary:
            texts = [self._summary(i) for i in interaction[HISTORY_ID].tolist()]
            rows = [ids[: self._max_summary_tokens] for ids in self._plain_text.ids(texts)]
        ids, lengths = (torch.from_numpy(part) for part in pad_right(rows, 0))
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        embedding = self.backbone.transformer.get_input_embeddings()
        return embedding(ids.to(self.device)), mask.to(self.device)

    def _logits(self, states: Tensor) -> Tensor:
        """fp32 logits, -inf for the padding item. [..., n_items]"""
        logits = exact_product(states, self.item_embedding.weight.T)
        logits[..., 0] = -torch.inf
        return logits
