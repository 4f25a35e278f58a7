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


def reads_candidates(model: object) -> bool:
    """Whether a model, or a class of models, reads a prompt for each candidate, which can be counted and changed."""
    return getattr(model, "reads_candidates", False)


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
    """A sequential model of RecBole's whose checkpoints hold the trained weights alone.

    Attributes:
        divides_batches: the loss and the scores of a batch can be computed in parts, by several processes.
        backbone: its language model; a subclass sets it.
    """

    divides_batches = False
    backbone: Backbone

    def forward(self, interaction: Interaction) -> Tensor:
        """The training loss: what a distributed wrapper calls."""
        loss: Tensor = self.calculate_loss(interaction)
        return loss

    def prepare(self, interaction: Interaction) -> Interaction:
        """The batch as it is; a subclass may do work for it here, ahead of its turn, on another thread."""
        return interaction

    def micro_batches(self, interaction: Interaction, n_shards: int = 1) -> list[tuple[Interaction, float]]:
        """Parts of a training batch that fit into memory, each with its share in the loss: the batch as it is."""
        return [(interaction, 1.0)]

    def count_training(self, interaction: Interaction) -> None:
        """Count a part of a training batch, whichever process learns from it."""

    def halve_training_budget(self, interactions: Sequence[Interaction]) -> None:
        """Lower the training budget: the parts of these batches were too large.

        Raises:
            UserError: they cannot be divided.
        """
        raise UserError(
            f"training ran out of memory with batches of {max(map(len, interactions))} rows, which"
            f" {type(self).__name__} cannot split further: lower train_batch_size (and for HLLM n_shared_negatives or"
            " max_item_tokens), or set precision: bf16 or gradient_checkpointing: True"
        )

    def resumable_parts(self) -> dict[str, Any]:
        """What it counts or learns beside its weights, by name; each with `state` and `restore`."""
        return {}

    def trainable_weights(self) -> dict[str, torch.nn.Parameter]:
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The trainable weights alone, so that RecBole's checkpoints stay small."""
        names = self.trainable_weights()
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name in names}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Load what ``state_dict`` gave; frozen weights come from the backbone itself.

        Raises:
            UserError: a checkpoint of other weights.
        """
        expected = self.trainable_weights()
        missing, surplus = set(expected) - set(state_dict), set(state_dict) - set(expected)
        shapes = [n for n in expected if n in state_dict and expected[n].shape != state_dict[n].shape]
        if strict and (missing or surplus or shapes):
            raise UserError(
                f"the weights in the checkpoint do not match those that this model trains: {len(missing)} are missing,"
                f" {len(surplus)} are unknown, {len(shapes)} have another shape; use the backbone, tune and lora_* (or"
                " builtin_*) options of the run that saved it"
            )
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def save_backbone(self, folder: Path) -> None:
        """Save what was trained in its own format: a peft adapter, or the whole builtin model; with its tokenizer."""
        self.backbone.lm.save_pretrained(folder)  # type: ignore[operator]
        self.backbone.tokenizer.save_pretrained(folder)
