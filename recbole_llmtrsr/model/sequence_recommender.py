"""Base of recommenders that read a user's items as vectors and rank the whole catalogue in one pass."""

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
    """Trains on all targets of a row at once, each predicted from the `window` events before it, as in the test.

    Args:
        config: the configuration of the run.
        dataset: the data set with the training rows.

    Attributes:
        learns_sequences: whether training rows hold several targets.
        window: number of most recent events that the model reads.
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
        """Check the options before any work starts.

        Raises:
            UserError: the options require labels or impressions, or more targets than the window has events.
        """
        faults, window = [], cls.window_of(config)
        n = config.settings.training.targets_per_prompt
        if config["eval_type"] == EvaluatorType.VALUE:
            faults.append(
                f"{cls.__name__} only ranks, but metrics {config['metrics']} compare predictions with labels: set"
                " metrics: [Recall, MRR, NDCG], or use LLMTRSR"
            )
        if config.settings.training.train_on == "impressions":
            faults.append(
                f"train_on: impressions requires a model that reads candidates, unlike {cls.__name__}: set train_on:"
                " targets"
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
        """Number of most recent events that the model reads."""
        return int(config["MAX_ITEM_LIST_LENGTH"])

    def recent(self, interaction: Interaction, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last items of each history.

        Args:
            interaction: rows of histories.
            limit: maximum number of items of each row, beside the window. [B]

        Returns:
            Item ids, padded with 0 [B, L], and their numbers [B].

        Raises:
            UserError: a history has no event.
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
        """Return the training sequences of at most `window` events, and the positions of their targets.

        Returns:
            Item ids [B, T], their numbers [B], and for every target its row [n_targets] and the position from which it
            is predicted [n_targets].
        """
        targets = interaction[TARGETS]
        n_targets = (targets > 0).sum(1)
        history, n = self.recent(interaction, self.window + 1 - n_targets)
        row, slot = torch.nonzero(targets, as_tuple=True)
        return joined(history, n, targets, n_targets), n + n_targets - 1, row, n[row] - 1 + slot

    def each_history(self, interaction: Interaction) -> tuple[Interaction, Tensor]:
        """Return one row of each history [n], and the index of every row's history among them [batch_size]."""
        ids = interaction[HISTORY_ID].cpu().numpy()
        _, first, row = np.unique(ids, return_index=True, return_inverse=True)
        return interaction[torch.from_numpy(first)], torch.from_numpy(row)


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    """Compute a matrix product in fp32, also under autocast, since rankings compare scores. [n, m]"""
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


def freeze_unread(backbone: Backbone, reads_tokens: bool) -> None:
    """Freeze weights that do not affect the last hidden states, and token embeddings that the model does not read."""
    read = {id(weight) for weight in backbone.decoder.parameters()}
    if not reads_tokens:
        read -= {id(weight) for weight in backbone.transformer.get_input_embeddings().parameters()}
    for weight in backbone.parameters():
        if id(weight) not in read:
            weight.requires_grad_(False)


def check_positions(backbone: Backbone, longest: int, options: str) -> None:
    """Refuse sequences that are longer than the positions of a backbone.

    Args:
        backbone: the language model.
        longest: length of the longest sequence, in vectors and tokens.
        options: options that shorten it, for the message.

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
    """Refuse a backbone that cannot read a sequence of vectors causally.

    Args:
        backbone: the language model.
        longest: length of the longest sequence, in vectors and tokens.

    Raises:
        UserError: the backbone has too few positions, embeddings of another width, or attends to later events.
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
    """Compute the hidden state at every event, which depends on the vectors up to this event.

    Args:
        decoder: decoder of a causal language model.
        head: vectors before the events, such as those of a summary. [B, S, H]
        head_mask: True for vectors in use. [B, S]
        events: vectors of the events, oldest first. [B, T, H]
        n_events: number of events of each row, at least 1. [B]

    Returns:
        Hidden states; undefined after the events of a row. [B, T, H]
    """
    event_mask = torch.arange(events.shape[1], device=events.device) < n_events[:, None]
    mask = torch.cat([head_mask, event_mask], dim=1)
    # Vectors in use come first in each row, so that default positions are correct in every architecture.
    order = torch.argsort(~mask, dim=1, stable=True)
    vectors = _picked(torch.cat([head, events], dim=1), order)
    states = decoder(inputs_embeds=vectors, attention_mask=mask.gather(1, order).long()).last_hidden_state
    places = head_mask.sum(1, keepdim=True) + torch.arange(events.shape[1], device=events.device)
    return _picked(states, places.clamp(max=mask.shape[1] - 1))


def joined(history: Tensor, n: Tensor, targets: Tensor, n_targets: Tensor) -> Tensor:
    """Append to each history its targets except for the last, from which nothing is predicted.

    Args:
        history: item ids, oldest first. [B, L]
        n: number of items of each history. [B]
        targets: item ids of the targets, oldest first. [B, m]
        n_targets: number of targets of each row, at least 1. [B]

    Returns:
        Item ids, padded with 0. [B, T]

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
