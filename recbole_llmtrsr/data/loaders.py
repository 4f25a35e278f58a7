"""Data loaders: RecBole's for training, and one that shows every model the saved candidate sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers, get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_llmtrsr.data.candidates import CandidateSet, candidate_set, sampled_mode
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.errors import UserError


class CandidateEvalDataLoader(AbstractDataLoader):  # type: ignore[misc]
    """Batches of histories, each with its target and its saved negatives.

    Args:
        config: our Config.
        dataset: the built data set of one split.
        candidates: its candidate set.

    Deviation:
        each target is ranked in a list of its own; RecBole joins the lists of a user who has several.
    """

    def __init__(self, config: Any, dataset: Any, candidates: CandidateSet) -> None:
        self.candidates = candidates
        self.n_candidates = 1 + candidates.items.shape[1]
        self.sample_size = len(dataset)
        self.label_field = config["LABEL_FIELD"]
        dataset.set_field_property(self.label_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
        super().__init__(config, dataset, None, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        self.step = max(1, self.config["eval_batch_size"] // self.n_candidates)
        self.set_batch_size(self.step * self.n_candidates)

    def collate_fn(self, index: Any) -> tuple[Interaction, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows of all candidates: targets first, then the first negative of each history, the second, and so on.

        Returns:
            rows [n_histories * n_candidates], their history in the batch, and history and item of each target.
        """
        targets = self.transform(self._dataset, self._dataset[np.array(index)])
        n = len(targets)
        negatives = torch.from_numpy(self.candidates.negatives(targets[HISTORY_ID].numpy()))  # [n, n_negatives]
        rows = targets.repeat(self.n_candidates)
        iid = self._dataset.iid_field
        rows[iid] = torch.cat([targets[iid], negatives.T.reshape(-1)])
        rows = self._dataset.join(rows)
        rows.update(Interaction({self.label_field: (torch.arange(len(rows)) < n).float()}))
        return rows, torch.arange(n).repeat(self.n_candidates), torch.arange(n), targets[iid]


def make_loaders(config: Any, dataset: Any) -> tuple[tuple[Any, Any, Any], Mapping[str, CandidateSet]]:
    """Split a data set and make its loaders.

    Returns:
        (train, valid, test) loaders, and the candidate sets by split where the mode samples.

    Raises:
        UserError: nothing to train or test on.
    """
    built = dataset.build()
    if len(built[0]) == 0:
        raise UserError(
            f"dataset '{config['dataset']}' leaves no row to train on after the split {config['eval_args']['split']}: a"
            " target needs an event before it, and users long enough for the split must remain"
        )
    samplers = create_samplers(config, dataset, built)
    arguments: list[Any] = [config, built[0], samplers[0]]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        train_args = config["train_neg_sample_args"]
        arguments.append(KGSampler(dataset, train_args["distribution"], train_args["alpha"]))
    train = get_dataloader(config, "train")(*arguments, shuffle=config["shuffle"])
    candidates: dict[str, CandidateSet] = {}
    loaders = [train]
    for split, part, sampler in zip(("valid", "test"), built[1:], samplers[1:], strict=True):
        if sampled_mode(config["eval_args"]["mode"][split]) is None:
            loaders.append(get_dataloader(config, split)(config, part, sampler, shuffle=False))
        else:
            candidates[split] = candidate_set(config, part, split)
            loaders.append(CandidateEvalDataLoader(config, part, candidates[split]))
    return (loaders[0], loaders[1], loaders[2]), candidates
