"""The data of a run: read, split, with loaders and candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.utils import init_seed

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.recbole_faults import setting_up
from recbole_llmtrsr.data.candidates.candidate_set import CandidateSet
from recbole_llmtrsr.data.dataset import LLMTRSRDataset, load_dataset
from recbole_llmtrsr.data.identity import identity
from recbole_llmtrsr.data.loaders.make_loaders import CandidateEvalDataLoader, make_loaders
from recbole_llmtrsr.data.location import file_digests
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.language_model_recommender import check_full_sort_cost, is_served
from recbole_llmtrsr.registry import get_dataset
from recbole_llmtrsr.runtime.clock import Clock


@dataclass(frozen=True)
class RunData:
    """A data set, split, with its loaders.

    Attributes:
        dataset: before the split.
        candidates: the candidate set of each split that has one.
        also: further loaders of the test, by candidate mode.
        files: digests of the files that were read, by name.
        size: numbers of users, items and events, after the filters.
    """

    dataset: Dataset
    train: AbstractDataLoader
    valid: AbstractDataLoader
    test: AbstractDataLoader
    candidates: Mapping[str, CandidateSet]
    also: Mapping[str, CandidateEvalDataLoader]
    files: Mapping[str, str]
    size: tuple[int, int, int]

    @property
    def has_texts(self) -> bool:
        """Whether it holds item texts and summaries, for a language model."""
        return isinstance(self.dataset, LLMTRSRDataset)

    @property
    def loaders(self) -> list[AbstractDataLoader]:
        """The loaders whose histories the run reads: of all splits, and the further ones of the test.

        A model behind a server is not trained, and validated only if the blend with a retriever is tuned.
        """
        config, tests = self.dataset.config, [self.test, *self.also.values()]
        if not is_served(config):
            return [self.train, self.valid, *tests]
        return [*([self.valid] if config.settings.retrieval.blend is None else []), *tests]

    def report(self) -> dict[str, Any]:
        """Its size and candidates, for result.json."""
        return {
            "n_train": getattr(self.train, "n_targets", len(self.train._dataset)),
            "n_valid": len(self.valid._dataset),
            "n_test": len(self.test._dataset),
            "n_items": self.dataset.item_num - 1,
            "candidates": {split: drawn.report() for split, drawn in self.candidates.items()},
            "data_files": dict(self.files),
        }


def load_run_data(config: Config, clock: Clock, candidate_hashes: Mapping[str, str]) -> RunData:
    """Read and split the data, and draw candidates, which must have the hashes that are given by split.

    Raises:
        UserError: files or options that cannot be used, other candidates, or a full ranking that costs too much.
    """
    init_seed(config.data_seed, config["reproducibility"])  # of a split in random order
    with clock("data"):
        files = file_digests(config)
        with setting_up(config, "the data"):
            dataset = load_dataset(get_dataset(config.model_class), config)
            getLogger().info(dataset)
            size = (dataset.user_num - 1, dataset.item_num - 1, len(dataset))
            (train, valid, test), candidates, also = make_loaders(config, dataset)
        config.describe_data(identity(dataset), files)
    for split, digest in candidate_hashes.items():
        found = candidates[split].digest if split in candidates else "none"
        if found != digest:
            raise UserError(
                f"this model would rank other {split} candidates ({found[:12]}) than the previous model"
                f" ({digest[:12]}): run all models of a comparison with the same eval_args, seed, filters and columns"
            )
    check_full_sort_cost(config, {"valid": valid, "test": test})
    return RunData(dataset, train, valid, test, candidates, also, files, size)
