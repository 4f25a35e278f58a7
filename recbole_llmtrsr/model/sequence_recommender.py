"""The base of recommenders that read a user's items as vectors and rank the whole catalogue in one pass."""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import EvaluatorType, InputType
from torch import Tensor, nn

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.train_sequences import TARGETS
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.language_model_recommender import LanguageModelRecommender


class SequenceRecommender(LanguageModelRecommender):
    """Learns all targets of a row at once, each from the events before it, of which no more are read than in the test.

    Args:
        config: our Config.
        dataset: an LLMTRSRDataset, of the training rows.

    Attributes:
        learns_sequences: its training rows hold several targets.
        window: most recent events that are read.
    """

    input_type = InputType.POINTWISE
    learns_sequences = True

    def __init__(self, config: Config, dataset: LLMTRSRDataset) -> None:
        self.check_config(config)
        super().__init__(config, dataset)
        settings = config.settings
        self.window = self.window_of(config)
        self._summary = dataset.summary
        self._with_summary = settings.summary.summary != "none"
        self._max_summary_tokens = settings.prompt.max_summary_tokens

    @classmethod
    def check_config(cls, config: Config) -> None:
        """Refuse options that this model cannot work with, before any work is done.

        Raises:
            UserError: labels to predict, impressions to learn from, or a window without an event.
        """
        faults, window = [], cls.window_of(config)
        n = config.settings.training.targets_per_prompt
        if config["eval_type"] == EvaluatorType.VALUE:
            faults.append(
                f"{cls.__name__} ranks and predicts no labels, but metrics {config['metrics']} compare with labels: set"
                " metrics: [Recall, MRR, NDCG], or take LLMTRSR"
            )
        if config.settings.training.train_on == "impressions":
            faults.append(
                f"train_on: impressions is for models that read candidates, not for {cls.__name__}: set targets"
            )
        if not 1 <= n <= window:
            faults.append(
                f"targets_per_prompt: {n} is more than the {window} recent events that {cls.__name__} reads: lower it,"
                " or raise n_recent_items or MAX_ITEM_LIST_LENGTH"
            )
        if faults:
            raise UserError(faults)

    @classmethod
    def window_of(cls, config: Config) -> int:
        """Most recent events that are read."""
        return int(config["MAX_ITEM_LIST_LENGTH"])

    def recent(self, interaction: Interaction, limit: Tensor) -> tuple[Tensor, Tensor]:
        """The last items of each history [B, L], and how many [B]: at most the limit (of each row [B]) and the window.

        Raises:
            UserError: a history without an event.
        """
        history, n = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        if (n < 1).any():
            raise UserError(
                f"a target has no event before it, but {type(self).__name__} predicts from the latest event: remove"
                " rows without a history from the pre-split files (benchmark_filename)"
            )
        kept = torch.minimum(n, limit.clamp(max=self.window))
        places = torch.arange(int(kept.max()), device=n.device)
        index = ((n - kept)[:, None] + places).clamp(max=history.shape[1] - 1)
        return torch.where(places < kept[:, None], history.gather(1, index), 0), kept

    def training_sequences(self, interaction: Interaction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sequences to read, of at most `window` events, and the targets in them.

        Returns:
            item ids [B, T], how many [B], and of every target its row and the place it is predicted from.
        """
        targets = interaction[TARGETS]
        n_targets = (targets > 0).sum(1)
        history, n = self.recent(interaction, self.window + 1 - n_targets)
        row, slot = torch.nonzero(targets, as_tuple=True)
        return joined(history, n, targets, n_targets), n + n_targets - 1, row, n[row] - 1 + slot

    def each_history(self, interaction: Interaction) -> tuple[Interaction, Tensor]:
        """One row of each history, and which of them every row belongs to. [n], [batch_size]"""
        ids = interaction[HISTORY_ID].cpu().numpy()
        _, first, row = np.unique(ids, return_index=True, return_inverse=True)
        return interaction[torch.from_numpy(first)], torch.from_numpy(row)


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product in fp32, whatever the number format around it: scores are compared. [n, m]"""
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


def freeze_unread(backbone: Backbone, reads_tokens: bool) -> None:
    """Freeze weights that no sequence passes: those behind the last hidden states, and unread token embeddings."""
    read = {id(weight) for weight in backbone.decoder.parameters()}
    if not reads_tokens:
        read -= {id(weight) for weight in backbone.transformer.get_input_embeddings().parameters()}
    for weight in backbone.parameters():
        if id(weight) not in read:
            weight.requires_grad_(False)


def check_positions(backbone: Backbone, longest: int, options: str) -> None:
    """Refuse sequences that a backbone has no positions for.

    Args:
        longest: length of the longest sequence, in vectors and tokens.
        options: those that make it shorter, for the message.

    Raises:
        UserError: the backbone has too few positions.
    """
    positions = getattr(backbone.config, "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise UserError(
            f"backbone '{backbone.name}' has {positions} positions, but the input may hold up to {longest} vectors and"
            f" tokens: lower {options}"
        )


@torch.no_grad()
def check_reads_vectors(backbone: Backbone, longest: int) -> None:
    """Refuse a backbone that cannot read vectors one after the other.

    Args:
        longest: length of the longest sequence, in vectors and tokens.

    Raises:
        UserError: it has too few positions, embeddings of another width, or states that see what comes later.
    """
    check_positions(backbone, longest, "MAX_ITEM_LIST_LENGTH, n_recent_items or max_summary_tokens")
    width = backbone.config.hidden_size
    embedded = backbone.transformer.get_input_embeddings().weight.shape[1]  # type: ignore[operator, union-attr]
    if embedded != width:
        raise UserError(
            f"backbone '{backbone.name}' embeds tokens in {embedded} dimensions, but its hidden size is {width}: choose"
            " a backbone where both are equal"
        )
    dtype = next(backbone.decoder.parameters()).dtype
    vectors = torch.randn(1, 4, width, generator=torch.Generator().manual_seed(0)).to(backbone.device, dtype)
    other = vectors.clone()
    other[:, -1] *= -1
    was_training = backbone.training
    backbone.eval()
    seen = [backbone.decoder(inputs_embeds=own).last_hidden_state[:, :-1].float() for own in (vectors, other)]
    backbone.train(was_training)
    if not torch.allclose(seen[0], seen[1], atol=1e-3 * float(seen[0].abs().max())):
        raise UserError(
            f"backbone '{backbone.name}' attends to later events, so training would leak the targets: choose a causal"
            " language model (for a BERT architecture: is_decoder: true in its config)"
        )


def read_vectors(decoder: nn.Module, head: Tensor, head_mask: Tensor, events: Tensor, n_events: Tensor) -> Tensor:
    """Hidden states at every event, after the vectors before it and its own.

    Args:
        decoder: of a causal language model.
        head: vectors before the events, such as a summary's. [B, S, H]
        head_mask: which of them are there. [B, S]
        events: vectors of the events, oldest first. [B, T, H]
        n_events: of each row, at least 1. [B]

    Returns:
        [B, T, H]; meaningless behind a row's events.
    """
    event_mask = torch.arange(events.shape[1], device=events.device) < n_events[:, None]
    mask = torch.cat([head_mask, event_mask], dim=1)
    # What is there comes first in each row: positions are then right without being given, in every architecture.
    order = torch.argsort(~mask, dim=1, stable=True)
    vectors = _picked(torch.cat([head, events], dim=1), order)
    states = decoder(inputs_embeds=vectors, attention_mask=mask.gather(1, order).long()).last_hidden_state
    places = head_mask.sum(1, keepdim=True) + torch.arange(events.shape[1], device=events.device)
    return _picked(states, places.clamp(max=mask.shape[1] - 1))


def joined(history: Tensor, n: Tensor, targets: Tensor, n_targets: Tensor) -> Tensor:
    """Each history with its targets appended, but for the last one, which nothing is predicted from.

    Args:
        history, targets: item ids, oldest first. [B, L], [B, m]
        n, n_targets: how many of them; at least 1 target. [B] each

    Returns:
        item ids, 0 behind. [B, T]

    >>> history, targets = torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.tensor([[4, 5], [6, 0]])
    >>> joined(history, torch.tensor([2, 1]), targets, torch.tensor([2, 1])).tolist()
    [[1, 2, 4], [3, 0, 0]]
    """
    places = torch.arange(int((n + n_targets).max()) - 1, device=n.device)
    both = torch.cat([history, targets], dim=1)
    behind = history.shape[1] + places - n[:, None]
    index = torch.where(places < n[:, None], places, behind).clamp(max=both.shape[1] - 1)
    return torch.where(places < (n + n_targets)[:, None] - 1, both.gather(1, index), 0)


def _picked(vectors: Tensor, places: Tensor) -> Tensor:
    return vectors.gather(1, places[..., None].expand(-1, -1, vectors.shape[2]))
