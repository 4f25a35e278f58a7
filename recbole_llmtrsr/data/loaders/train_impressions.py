"""Training on impressions: the negatives are items that were shown to the user and not clicked."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_llmtrsr.config.candidate_modes import candidate_mode
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.candidates.candidate_set import CandidateSet
from recbole_llmtrsr.data.candidates.make import candidate_set
from recbole_llmtrsr.data.histories import HISTORY_ID, latest_rows
from recbole_llmtrsr.errors import UserError


class ImpressionTrainDataLoader(AbstractDataLoader):  # type: ignore[misc]
    """Batches of labelled rows: at most ``targets_per_prompt`` clicks and ``sample_num`` other items per impression.

    Both are drawn again in every epoch, from NumPy's global state, as by RecBole's sampler.

    Args:
        config: our Config.
        dataset: training rows, all of which have an impression.
        candidates: the impressions.

    Attributes:
        n_targets: number of clicks per epoch.
    """

    def __init__(self, config: Config, dataset: Dataset, candidates: CandidateSet) -> None:
        self.candidates = candidates
        self.sample_size = len(dataset)
        self.n_clicks = config.settings.training.targets_per_prompt
        clicks = [int(candidates[i][1].sum()) for i in dataset.inter_feat[HISTORY_ID].tolist()]
        self.n_targets = sum(min(n, self.n_clicks) for n in clicks)
        self.n_negatives = int(config["train_neg_sample_args"]["sample_num"])
        self.label_field = config["LABEL_FIELD"]
        dataset.set_field_property(self.label_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
        super().__init__(config, dataset, None, shuffle=config["shuffle"])

    def _init_batch_size_and_step(self) -> None:
        self.step = max(1, self.config["train_batch_size"] // (1 + self.n_negatives))
        self.set_batch_size(self.step * (1 + self.n_negatives))

    def collate_fn(self, index: Sequence[int]) -> Interaction:
        """Labelled rows, history by history. [n_rows]"""
        targets = self.transform(self._dataset, self._dataset[np.array(index)])
        items, labels, history = [], [], []
        for place, history_id in enumerate(targets[HISTORY_ID].tolist()):
            shown, is_clicked = self.candidates[history_id]
            negatives = np.random.permutation(shown[~is_clicked])[: self.n_negatives]
            clicks = np.random.permutation(shown[is_clicked])[: self.n_clicks]
            items += [*clicks, *negatives]
            labels += [*[1.0] * len(clicks), *[0.0] * len(negatives)]
            history += [place] * (len(clicks) + len(negatives))
        rows = targets[torch.tensor(history)]
        rows[self._dataset.iid_field] = torch.tensor(np.array(items))
        rows.update(Interaction({self.label_field: torch.tensor(labels)}))
        return rows


def impression_loader(config: Config, train: Dataset) -> ImpressionTrainDataLoader:
    """Make the loader of the training rows that begin an impression; other rows are dropped, and their number logged.

    Raises:
        UserError: there are no impressions or no negatives, or the negatives depend on the model.
    """
    arguments = config["train_neg_sample_args"]
    if arguments.get("dynamic") or arguments["sample_num"] == "none":
        raise UserError(
            "train_on: impressions needs a fixed number of negatives per impression, got train_neg_sample_args:"
            f" {arguments}: set it to {{distribution: uniform, sample_num: 8, dynamic: False}}"
        )
    candidates = candidate_set(config, train, "train", candidate_mode("impressions"))
    rows = np.flatnonzero(np.isin(train.inter_feat[HISTORY_ID].numpy(), candidates.history_ids))
    limit = config.settings.data.max_train_targets_per_user
    if limit is not None:
        feat = train.inter_feat[rows]
        rows = rows[latest_rows(feat[train.uid_field].numpy(), feat[HISTORY_ID].numpy(), limit)]
    getLogger().info(f"training on {len(rows):,} impressions; {len(train) - len(rows):,} other targets are not used")
    return ImpressionTrainDataLoader(config, train.copy(train.inter_feat[rows]), candidates)
