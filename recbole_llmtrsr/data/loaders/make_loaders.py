"""Makes the data loaders for training, and for evaluating every model on the saved candidate sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers, get_dataloader
from recbole.sampler import KGSampler
from recbole.sampler.sampler import AbstractSampler
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_llmtrsr.config.candidate_modes import US, CandidateMode, candidate_mode, impression_faults
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.candidates.candidate_set import CandidateSet
from recbole_llmtrsr.data.candidates.make import candidate_set
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID, latest_rows
from recbole_llmtrsr.data.loaders.full_ranking import FullRankingLoader
from recbole_llmtrsr.data.loaders.train_impressions import impression_loader
from recbole_llmtrsr.data.loaders.train_sequences import SequenceTrainDataLoader
from recbole_llmtrsr.data.loaders.train_targets import TargetTrainDataLoader
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.packing import packed


class CandidateEvalDataLoader(AbstractDataLoader):  # type: ignore[misc]
    """Batches of histories, each with the candidates of its saved list.

    Args:
        config: our Config.
        dataset: the built dataset of one split, whose rows are all in the candidate set.
        candidates: the candidate set.

    Deviation:
        each target is ranked in a separate list; RecBole joins the lists of a user with several targets. Batches are
        made in the main process, so that ``worker`` has no effect.
    """

    def __init__(self, config: Config, dataset: Dataset, candidates: CandidateSet) -> None:
        self.candidates = candidates
        self.sample_size = len(dataset)
        self.label_field = config["LABEL_FIELD"]
        dataset.set_field_property(self.label_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
        super().__init__(config, dataset, None, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        # Lists differ in length, so RecBole's fixed number of histories would leave most batches nearly empty. Its
        # trainer cuts a batch of more rows than it scores at once; only a single history that has more is cut, which
        # changes no score.
        lengths = [len(self.candidates[i][0]) for i in self._dataset.inter_feat[HISTORY_ID].tolist()]
        self._batches = list(packed(range(len(lengths)), lengths, self.config["eval_batch_size"]))
        self.step = 1
        self.set_batch_size(self.config["eval_batch_size"])

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Interaction, torch.Tensor, torch.Tensor, torch.Tensor]]:
        return map(self.collate_fn, self._batches)

    def collate_fn(self, index: Sequence[int]) -> tuple[Interaction, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows of all candidates, history by history.

        Returns:
            rows [n_rows], the position of each row's history in the batch, and position and item of each positive.
        """
        targets = self.transform(self._dataset, self._dataset[np.array(index)])
        lists = [self.candidates[history_id] for history_id in targets[HISTORY_ID].tolist()]
        history = torch.from_numpy(np.repeat(np.arange(len(lists)), [len(items) for items, _ in lists]))
        items = torch.from_numpy(np.concatenate([items for items, _ in lists]))
        is_positive = torch.from_numpy(np.concatenate([positive for _, positive in lists]))
        rows = targets[history]
        rows[self._dataset.iid_field] = items
        rows = self._dataset.join(rows)
        rows.update(Interaction({self.label_field: is_positive.float()}))
        return rows, history, history[is_positive], items[is_positive]


def make_loaders(
    config: Config, dataset: Dataset
) -> tuple[
    tuple[AbstractDataLoader, AbstractDataLoader, AbstractDataLoader],
    Mapping[str, CandidateSet],
    Mapping[str, CandidateEvalDataLoader],
]:
    """Split a data set and make its loaders.

    Returns:
        (train, valid, test) loaders, the candidate sets of the splits that have one, and additional test loaders by the
        modes of ``also_test``.

    Raises:
        UserError: there is nothing to train on, impressions are used without a split by user, labels to be evaluated
            are missing, or candidates cannot be drawn or read.
    """
    _check_modes(config, dataset)
    built = dataset.build()
    if len(built[0]) == 0:
        raise UserError(
            f"dataset '{config['dataset']}' leaves no row to train on after the split {config['eval_args']['split']}: a"
            " target needs an event before it, so loosen filters or choose a split that needs fewer events per user"
        )
    n_rows = [len(part) for part in built]
    for split, n in zip(("validation", "test"), n_rows[1:], strict=True):
        if n == 0:
            getLogger().warning(
                f"the {split} split is empty: of {sum(n_rows):,} targets, {n_rows[0]:,} are for training,"
                f" {n_rows[1]:,} for validation and {n_rows[2]:,} for the test"
            )
    _check_labels(config, built)
    samplers = create_samplers(config, dataset, built)
    if config["train_neg_sample_args"]["distribution"] == "popularity":
        _count_training_alone(samplers[0], built[0])
    candidates: dict[str, CandidateSet] = {}
    loaders = [_train_loader(config, dataset, built[0], samplers[0])]
    for split, part, sampler in zip(("valid", "test"), built[1:], samplers[1:], strict=True):
        mode = candidate_mode(config["eval_args"]["mode"][split])
        if config["eval_args"]["mode"][split] == "full":
            loaders.append(FullRankingLoader(config, _targets(config, part), sampler))
        elif mode is None:
            loaders.append(get_dataloader(config, split)(config, _targets(config, part), sampler, shuffle=False))
        else:
            loaders.append(_candidate_loader(config, part, split, mode))
            candidates[split] = loaders[-1].candidates
    further = {
        mode.text: _candidate_loader(config, built[2], "test", mode)
        for text in config.settings.evaluation.also_test
        if (mode := candidate_mode(text)) is not None
    }
    return (loaders[0], loaders[1], loaders[2]), candidates, further


def _check_labels(config: Config, built: Sequence[Dataset]) -> None:
    """Refuse labels that are all equal, from which no model can learn and whose AUC is undefined."""
    label = config["LABEL_FIELD"]
    if "labeled" not in config["eval_args"]["mode"].values():
        return
    has_auc = "auc" in [metric.lower() for metric in config["metrics"]]
    is_learned = config["train_neg_sample_args"]["distribution"] == "none"
    are_read = {"training": is_learned, "validation": has_auc, "test": has_auc}
    for (split, is_read), part in zip(are_read.items(), built, strict=True):
        if not is_read or len(part) == 0 or label not in part.inter_feat:
            continue
        values = part.inter_feat[label]
        if values.min() == values.max():
            raise UserError(
                f"all {len(part):,} labels of the {split} split are {float(values[0]):g}: set another threshold"
                f" ({config['threshold']}), or LABEL_FIELD (now {label}) to a column with different values"
            )


def _count_training_alone(sampler: AbstractSampler, train: Dataset) -> None:
    """Draw training negatives by their popularity in the training split.

    Raises:
        UserError: no negative remains for a user, for which RecBole would search endlessly.

    Deviation:
        RecBole also counts validation and test events, which leaks their popularity into training.
    """
    popularity = train.popularity
    known = set(np.flatnonzero(popularity).tolist())
    for user, used in enumerate(sampler.used_ids[1:], start=1):  # 0 is the padding
        if known <= used or len(known) < 2:  # the target itself cannot be a negative
            raise UserError(
                f"user '{train.field2id_token[train.uid_field][user]}' leaves no item of the training split as a"
                " negative: set train_neg_sample_args: {distribution: uniform}"
            )
    sampler._get_candidates_list = np.repeat(np.arange(len(popularity)), popularity).tolist
    sampler._build_alias_table()


def _check_modes(config: Config, dataset: Dataset) -> None:
    modes = config["eval_args"]["mode"]
    every = [*modes.values(), *config.settings.evaluation.also_test]
    if _trains_on_impressions(config, dataset):
        every.append("impressions")
    is_presplit = config["benchmark_filename"] is not None
    faults = impression_faults(config["eval_args"]["split"], every, is_presplit)
    label, columns = config["LABEL_FIELD"], list(dataset.inter_feat.columns)
    if "labeled" in modes.values() and label not in columns:
        faults.append(
            f"eval_args mode 'labeled' needs the column '{label}' (LABEL_FIELD) of the .inter file, but loaded are"
            f" {', '.join(columns)}: list it in load_col: {{inter: [..., {label}]}}, or let RecBole derive it from"
            " another loaded column, for example with threshold: {rating: 4}"
        )
    draws_none = config["train_neg_sample_args"]["distribution"] == "none"
    is_ranking = "labeled" not in modes.values()
    if config["MODEL_TYPE"] == ModelType.CONTEXT and is_ranking and draws_none and label not in columns:
        faults.append(
            f"{config.label} learns from labels, but there are neither a column '{label}' (LABEL_FIELD) nor negatives:"
            " set train_neg_sample_args: {distribution: uniform, sample_num: 1}, or threshold: {rating: 4}"
        )
    n = config.settings.training.targets_per_prompt
    if is_presplit and n > 1 and isinstance(dataset, LLMTRSRDataset):
        faults.append(
            f"targets_per_prompt: {n} needs the time order of a user's targets, which pre-split files"
            " (benchmark_filename) do not provide: set targets_per_prompt: 1"
        )
    if faults:
        raise UserError(faults)


def _trains_on_impressions(config: Config, dataset: Dataset) -> bool:
    return config.settings.training.train_on == "impressions" and isinstance(dataset, LLMTRSRDataset)


def _train_loader(config: Config, dataset: Dataset, train: Dataset, sampler: AbstractSampler) -> AbstractDataLoader:
    if _trains_on_impressions(config, dataset):
        return impression_loader(config, train)
    if getattr(config.model_class, "learns_sequences", False):
        return SequenceTrainDataLoader(config, train)
    if isinstance(dataset, LLMTRSRDataset):
        return TargetTrainDataLoader(config, train, sampler, shuffle=config["shuffle"])
    arguments: list[Any] = [config, train, sampler]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        train_args = config["train_neg_sample_args"]
        arguments.append(KGSampler(dataset, train_args["distribution"], train_args["alpha"]))
    return get_dataloader(config, "train")(*arguments, shuffle=config["shuffle"])


def _candidate_loader(config: Config, part: Dataset, split: str, mode: CandidateMode) -> CandidateEvalDataLoader:
    # In impressions the targets are the first clicks.
    targets = part if mode.kind == "impressions" else _targets(config, part)
    candidates = candidate_set(config, targets, split, mode)
    is_ranked = np.isin(targets.inter_feat[HISTORY_ID].numpy(), candidates.history_ids)
    ranked = targets if is_ranked.all() else targets.copy(targets.inter_feat[np.flatnonzero(is_ranked)])
    return CandidateEvalDataLoader(config, ranked, candidates)


def _targets(config: Config, part: Dataset) -> Dataset:
    """The rows to rank: each user's latest row after a split by user, as in the paper; otherwise all rows."""
    if US not in config["eval_args"]["split"] or config["benchmark_filename"] is not None:
        return part
    users, ids = part.inter_feat[part.uid_field].numpy(), part.inter_feat[HISTORY_ID].numpy()
    return part.copy(part.inter_feat[latest_rows(users, ids, 1)])
