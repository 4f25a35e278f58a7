"""Training on impressions: what a user clicked among what the user was shown, instead of negatives drawn at random."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_llmtrsr.data.candidates.candidate_set import CandidateSet
from recbole_llmtrsr.data.candidates.make import candidate_set
from recbole_llmtrsr.data.candidates.modes import candidate_mode
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.errors import UserError


class ImpressionTrainDataLoader(AbstractDataLoader):  # type: ignore[misc]
    """Batches of labelled rows: of each impression one click and at most ``sample_num`` entries that were not clicked.

    Both are drawn anew in every epoch, from NumPy's global state, as RecBole's sampler draws.

    Args:
        config: our Config.
        dataset: training rows whose histories all have an impression with something not clicked.
        candidates: their impressions.
    """

    def __init__(self, config: Any, dataset: Any, candidates: CandidateSet) -> None:
        self.candidates = candidates
        self.sample_size = len(dataset)
        self.n_negatives = int(config["train_neg_sample_args"]["sample_num"])
        self.label_field = config["LABEL_FIELD"]
        dataset.set_field_property(self.label_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
        super().__init__(config, dataset, None, shuffle=config["shuffle"])

    def _init_batch_size_and_step(self) -> None:
        self.step = max(1, self.config["train_batch_size"] // (1 + self.n_negatives))
        self.set_batch_size(self.step * (1 + self.n_negatives))

    def collate_fn(self, index: Any) -> Interaction:
        """Labelled rows, history by history. [n_rows]"""
        targets = self.transform(self._dataset, self._dataset[np.array(index)])
        items, labels, history = [], [], []
        for place, history_id in enumerate(targets[HISTORY_ID].tolist()):
            shown, is_clicked = self.candidates[history_id]
            negatives = np.random.permutation(shown[~is_clicked])[: self.n_negatives]
            items += [np.random.choice(shown[is_clicked]), *negatives]
            labels += [1.0, *[0.0] * len(negatives)]
            history += [place] * (1 + len(negatives))
        rows = targets[torch.tensor(history)]
        rows[self._dataset.iid_field] = torch.tensor(np.array(items))
        rows.update(Interaction({self.label_field: torch.tensor(labels)}))
        return rows


def impression_loader(config: Any, train: Any) -> ImpressionTrainDataLoader:
    """The loader of the training rows that begin an impression; the others are left out, counted and logged.

    Args:
        config: our Config.
        train: the built training split.

    Raises:
        UserError: no impressions, or negatives that depend on the model.
    """
    if config["train_neg_sample_args"]["dynamic"]:
        raise UserError(
            "train_on: impressions has the negatives that were shown: set train_neg_sample_args: {dynamic: False}"
        )
    candidates = candidate_set(config, train, "train", candidate_mode("impressions"))
    lengths, n_positives = candidates.file.lengths, candidates.file.n_positives
    usable = candidates.history_ids[lengths > n_positives]
    rows = np.flatnonzero(np.isin(train.inter_feat[HISTORY_ID].numpy(), usable))
    if not len(rows):
        raise UserError("train_on: impressions finds none in the training split in which something was not clicked")
    getLogger().info(f"training on {len(rows):,} impressions; {len(train) - len(rows):,} other targets are left out")
    return ImpressionTrainDataLoader(config, train.copy(train.inter_feat[rows]), candidates)
