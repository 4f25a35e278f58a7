"""The base of recommenders on a language model: trained weights, checkpoints, and batches that can be divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.saving import save_trained


def reads_candidates(model: object) -> bool:
    """Whether a model or model class reads one prompt per candidate."""
    return getattr(model, "reads_candidates", False)


def is_served(config: Config) -> bool:
    """Whether a server scores the prompts of this run's model, so that nothing is loaded, trained or saved."""
    return reads_candidates(config.model_class) and config.settings.backbone.scorer is not None


def check_full_sort_cost(config: Config, loaders: Mapping[str, AbstractDataLoader]) -> None:
    """Refuse full ranking above ``max_full_sort_scores`` by models that read every candidate, with a UserError."""
    if not reads_candidates(config.model_class):
        return
    limit, retrieval = config.settings.evaluation.max_full_sort_scores, config.settings.retrieval
    for split, loader in loaders.items():
        if config["eval_args"]["mode"][split] != "full":
            continue
        n_histories = len(loader._dataset)
        n_items = loader._dataset.item_num - 1 if retrieval.retriever is None else retrieval.rerank_top_k
        if n_histories * n_items > limit:
            raise UserError(
                f"full ranking of {split} would score {n_histories:,} histories x {n_items:,} items ="
                f" {n_histories * n_items:,} candidates with the language model, more than max_full_sort_scores:"
                f" {limit:,}; let a retriever preselect the candidates (retriever: Pop), rank sampled"
                " candidates instead (eval_args: {mode: uni100}), or raise the limit"
            )


class LanguageModelRecommender(SequentialRecommender):  # type: ignore[misc]
    """Base class of RecBole models on a language model; checkpoints hold only the trained weights.

    A subclass sets `backbone` and implements `calculate_loss`, `predict` and `full_sort_predict`.

    Attributes:
        divides_batches: whether several processes can compute the loss and the scores of a batch in parts.
        backbone: the language model.
    """

    divides_batches = False
    backbone: Backbone

    def forward(self, interaction: Interaction) -> Tensor:
        """Compute the training loss, for the wrapper of distributed training. []"""
        loss: Tensor = self.calculate_loss(interaction)
        return loss

    def prepare(self, interaction: Interaction) -> Interaction:
        """Prepare a batch on another thread, before its turn; by default, return it unchanged."""
        return interaction

    def micro_batches(self, interaction: Interaction, n_shards: int = 1) -> list[tuple[Interaction, float]]:
        """Split a training batch into parts that fit into memory; by default, return it as a single part.

        Args:
            interaction: the batch.
            n_shards: number of shards that take the parts in turn.

        Returns:
            Each part with its weight in the loss.
        """
        return [(interaction, 1.0)]

    def count_training(self, interaction: Interaction) -> None:
        """Count the work of a part of a training batch, whichever process computes it."""

    def halve_training_budget(self, interactions: Sequence[Interaction]) -> None:
        """Lower the token budget of training after the parts of these batches ran out of memory.

        Raises:
            UserError: the batches cannot be split further.
        """
        raise UserError(
            f"training ran out of memory with batches of {max(map(len, interactions))} rows, which"
            f" {type(self).__name__} cannot split further: lower train_batch_size (and for HLLM n_shared_negatives or"
            " max_item_tokens), or set precision: bf16 or gradient_checkpointing: True"
        )

    def resumable_parts(self) -> dict[str, Any]:
        """State beside the weights that a resumed run restores, by name; values have `state` and `restore`."""
        return {}

    def trainable_weights(self) -> dict[str, torch.nn.Parameter]:
        """Weights that training changes, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return only the trainable weights, so that RecBole's checkpoints stay small."""
        names = self.trainable_weights()
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name in names}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Load the weights that ``state_dict`` returned; frozen weights come from the backbone.

        Raises:
            UserError: the checkpoint has other weights.
        """
        expected = self.trainable_weights()
        missing, surplus = set(expected) - set(state_dict), set(state_dict) - set(expected)
        shapes = [n for n in expected if n in state_dict and expected[n].shape != state_dict[n].shape]
        if strict and (missing or surplus or shapes):
            raise UserError(
                f"the weights in the checkpoint do not match those that this model trains: {len(missing)} are missing,"
                f" {len(surplus)} are unknown, {len(shapes)} have another shape; use the backbone, backbone_layers,"
                " tune and lora_* (or builtin_*) options of the run that saved it"
            )
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def save_backbone(self, folder: Path) -> None:
        """Save the trained part of the language model (a peft adapter or the whole model) and its tokenizer."""
        save_trained(self.backbone, folder)
