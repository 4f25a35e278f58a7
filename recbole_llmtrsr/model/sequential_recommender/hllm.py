"""HLLM: one language model embeds item texts, another reads a user's item vectors and predicts the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.train_sequences import TARGETS
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.builtin import BUILTIN
from recbole_llmtrsr.llm.make_backbone import choose_weights, make_backbone
from recbole_llmtrsr.llm.saving import save_trained
from recbole_llmtrsr.model.item_encoder import ItemEncoder
from recbole_llmtrsr.model.sequence_recommender import (
    SequenceRecommender,
    check_positions,
    check_reads_vectors,
    exact_product,
    freeze_unread,
    read_vectors,
)

_FIRST_TEMPERATURE = 0.05
_LEAST_TEMPERATURE = 0.01
LARGE_CATALOGUE = 100_000  # items whose vectors are kept in a file


class HLLM(SequenceRecommender):
    """Ranks items by the cosine similarity between their text embedding and the user model's prediction.

    The item model embeds each text once for all users. The user model reads one vector per event, after the vector of
    the preference summary if there is one. Full ranking therefore takes one forward pass and one matrix product.

    Attributes:
        items: the item model; its language model is `backbone`.
        user: the user model, which has the same architecture as the item model.

    Source:
        Chen et al., "HLLM: Enhancing Sequential Recommendations via Hierarchical Large Language Models for Item and
        User Modeling" (arXiv 2409.12740): two language models, trained together by InfoNCE on all positions.

    Deviation:
        the vector of a text is the mean of its last hidden states, not the state of an additional token, and no
        instruction precedes the text; a layer norm precedes the user model; the loss contrasts a target with the other
        targets of the batch, without correction for their popularity, and with `n_shared_negatives` items;
        `vector_dropout` applies to the events, but not to summaries or targets; pretrained models are tuned with LoRA
        unless ``tune`` is all; the preference summary as the first element is an addition of this package.
    """

    score_resolution = 2.0**-20  # cosines of one text are equal, however their products were rounded

    def __init__(self, config: Config, dataset: LLMTRSRDataset) -> None:
        super().__init__(config, dataset)
        settings = config.settings
        texts = [dataset.item(i).line for i in range(dataset.item_num)]
        seen = [*texts, *dataset.summary_sample()]
        self.backbone = make_backbone(settings, lambda: seen, self.device, config["seed"])
        self.user = make_backbone(settings, lambda: seen, self.device, config["seed"] + 1)
        check_reads_vectors(self.user, self.window + self._with_summary)
        self.items_change = settings.items.tune_items
        choose_weights(self.user, settings)
        freeze_unread(self.user, reads_tokens=False)
        if self.items_change:
            choose_weights(self.backbone, settings)
            freeze_unread(self.backbone, reads_tokens=True)
        else:
            self.backbone.requires_grad_(False)
        self.items = ItemEncoder(self.backbone, texts, settings.prompt.max_item_tokens)
        longest = max(self.items.longest, self._max_summary_tokens if self._with_summary else 0)
        check_positions(self.backbone, longest, "max_item_tokens or max_summary_tokens")
        self.entry = nn.LayerNorm(self.items.width)
        self.dropout = nn.Dropout(settings.items.vector_dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / _FIRST_TEMPERATURE)))
        self._n_negatives = settings.items.n_shared_negatives
        self._budget = TokenBudget(settings.backbone.max_tokens_per_batch, self.device, "evaluation")
        self._folder = Path(settings.text.vector_dir).expanduser() if dataset.item_num > LARGE_CATALOGUE else None
        self._show_progress = bool(config["show_progress"])
        self._table: Tensor | None = None
        if settings.backbone.gradient_checkpointing:
            for model in (self.backbone, self.user) if self.items_change else (self.user,):
                model.enable_gradient_checkpointing()

    @classmethod
    def check_config(cls, config: Config) -> None:
        """Check the options before any work starts.

        Raises:
            UserError: the item model would be frozen but untrained, or the options suit no sequence model.
        """
        super().check_config(config)
        if not config.settings.items.tune_items and config.settings.backbone.backbone == BUILTIN:
            raise UserError(
                "tune_items: False would leave the randomly initialized builtin backbone untrained: set tune_items:"
                " True, or choose a pretrained backbone"
            )

    def train(self, mode: bool = True) -> HLLM:
        """Set the mode; training mode discards the cached item vectors, which training steps change."""
        if mode:
            self._forget()
        return super().train(mode)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Load a ``state_dict`` and discard cached item vectors that it changes."""
        self._forget()
        return super().load_state_dict(state_dict, strict, assign)

    def save_backbone(self, folder: Path) -> None:
        """Save what was trained in its own format, in the folders 'user' and, if they are tuned, 'items'."""
        for name, model in {"user": self.user, **({"items": self.backbone} if self.items_change else {})}.items():
            save_trained(model, folder / name)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """InfoNCE of all targets of a batch: each against the other targets and the shared negatives. []"""
        sequence, n, row, place = self.training_sequences(interaction)
        targets = interaction[TARGETS][interaction[TARGETS] > 0]  # [n_targets]
        negatives = torch.randint(1, self.n_items, (self._n_negatives,), device=targets.device)
        distinct, of_item = torch.unique(torch.cat([sequence.flatten(), targets, negatives]), return_inverse=True)
        vectors = self._vectors(distinct)  # [n_distinct, width]
        past, ahead = of_item[: sequence.numel()].view_as(sequence), of_item[sequence.numel() :]
        states = self._states(vectors[past], n, interaction)  # [B, T, width]
        expected = F.normalize(states[row, place].float(), dim=1)  # [n_targets, width]
        rivals = torch.unique(ahead)
        logits = exact_product(expected, vectors[rivals].T) * self._scale()
        return F.cross_entropy(logits, torch.searchsorted(rivals, ahead[: len(targets)]))

    def predict(self, interaction: Interaction) -> Tensor:
        """Cosine for every row. [batch_size]"""
        histories, row = self.each_history(interaction)
        return (self._expected(histories)[row] * self._known(interaction[self.ITEM_ID])).sum(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Cosine with every item. [batch_size * n_items]"""
        expected = self._expected(interaction)
        parts = torch.split(self._item_table(), LARGE_CATALOGUE)
        scores = [exact_product(expected, part.to(expected.device).T) for part in parts]
        return torch.cat(scores, dim=1).view(-1)

    def _expected(self, interaction: Interaction) -> Tensor:
        """Predicted vector of the next item for each history, of length 1. fp32 [B, width]"""
        history, n = self.recent(interaction, interaction[self.ITEM_SEQ_LEN])
        distinct, place = torch.unique(history, return_inverse=True)
        states = self._states(self._known(distinct)[place], n, interaction)
        return F.normalize(states[torch.arange(len(n)), n - 1].float(), dim=1)

    def _states(self, vectors: Tensor, n: Tensor, interaction: Interaction) -> Tensor:
        """States of the user model at every event. [B, T, width]"""
        events = self.dropout(self._entered(vectors))
        head, is_there = events[:, :0], torch.ones(len(events), 0, dtype=torch.bool, device=events.device)
        if self._with_summary:
            texts = [self._summary(i) for i in interaction[HISTORY_ID].tolist()]
            head = self._entered(self.items.of_texts(texts, self._max_summary_tokens))[:, None]
            is_there = torch.tensor([[bool(text)] for text in texts], device=events.device)
        return read_vectors(self.user.decoder, head, is_there, events, n)

    def _vectors(self, items: Tensor) -> Tensor:
        """Vectors of items, computed with the current weights; the vector of the padding item 0 is never used."""
        return self.items(items) if self.items_change else self._known(items)

    def _known(self, items: Tensor) -> Tensor:
        """Cached vectors of items. [..., width]"""
        table = self._item_table()
        return table[items.to(table.device)].to(self.device)

    def _entered(self, vectors: Tensor) -> Tensor:
        """Rescale vectors of length 1 so that their elements are about 1, as the user model expects."""
        return self.entry(vectors * self.items.width**0.5)  # type: ignore[no-any-return]

    def _item_table(self) -> Tensor:
        if self._table is None:
            was_training = self.backbone.training
            self.backbone.eval()
            self._table = self.items.table(self._budget.max_tokens, self._show_progress, self._folder)
            self.backbone.train(was_training)
        return self._table

    def _forget(self) -> None:
        """Discard the cached item vectors if training changes them; the next use computes them again."""
        if self.items_change and self._table is not None:
            self._table = None
            self.items.remove_file()

    def _scale(self) -> Tensor:
        return self.log_scale.clamp(max=math.log(1 / _LEAST_TEMPERATURE)).exp()
