"""Histories: the events before each target, shared by all models.

The unit is a history, not a user: RecBole makes one row per target, and a summary, a prompt prefix and a candidate set
belong to (user, events before the target). Every row has a ``history_id``, which is the same for the same target in
the datasets of all models, so that all models share one split and one candidate set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction, cat_interactions
from recbole.utils import FeatureSource

from recbole_llmtrsr.config.candidate_modes import US
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.atomic_files import check_events, check_lines
from recbole_llmtrsr.data.event_order import sort_by_exact_time
from recbole_llmtrsr.data.identity import held_out_digest
from recbole_llmtrsr.data.item_text import LEAST_SHARE, item_tokens
from recbole_llmtrsr.data.tokens import Ids
from recbole_llmtrsr.data.user_split import split_by_user
from recbole_llmtrsr.errors import UserError

HISTORY_ID = "history_id"


@dataclass(frozen=True)
class Histories:
    """The history of every target, as slices of one array.

    Attributes:
        items: item ids of all events, by user and time. [n_events]
        begin: position in ``items`` at which a history begins, by history id. [n_histories]
        end: position at which it ends; the target lies at or after it. [n_histories]
        events: item ids of all events, each once, for counting popularity. [n_events]
    """

    items: Ids
    begin: Ids
    end: Ids
    events: Ids

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, history_id: int) -> Ids:
        """Item ids before the target, oldest first, however long the history is."""
        return self.items[self.begin[history_id] : self.end[history_id]]


class _Rows:
    """Common part of the datasets of sequential and of other models.

    Attributes:
        histories: of all rows.
        popularity: training events of every item; 0 is a cold item. [n_items]
        held_out: digest of the events of validation and test.
    """

    histories: Histories
    popularity: Ids
    held_out: str

    def _load_data(self: Any, token: str, dataset_path: str) -> None:
        super()._load_data(token, dataset_path)  # type: ignore[misc]
        if self.config.settings.evaluation.catalogue == "items":
            _add_item_file(self, Path(dataset_path) / f"{token}.item")

    def _load_feat(self: Any, filepath: str, source: Any) -> Any:
        path, is_events = Path(filepath), source == FeatureSource.INTERACTION
        if is_events:
            check_lines(path, self.config["field_separator"], self.config["encoding"])
        frame = super()._load_feat(filepath, source)  # type: ignore[misc]
        if is_events:
            check_events(frame, path, self.time_field)
        return frame

    def _filter_nan_user_or_item(self: Any) -> None:
        """Drop rows without a user or an item; a warning lists their lines.

        Deviation:
            RecBole uses row labels as positions, so that it may drop other rows than those with missing values.
        """
        for field, name in ((self.uid_field, "user_feat"), (self.iid_field, "item_feat")):
            for table in (name, "inter_feat"):
                feat = getattr(self, table)
                if field is None or feat is None:
                    continue
                gone = feat[field].isnull()
                if gone.any():
                    found = (feat.index[gone] + 2).tolist()
                    self.logger.warning(f"{table}: {len(found):,} lines have no {field} and are left out: {found[:10]}")
                    setattr(self, table, feat[~gone])

    def _filter_inter_by_user_or_item(self: Any) -> None:
        """Drop events of users and items that have no row in the loaded .user or .item file, with a warning.

        Raises:
            UserError: hardly any event remains.

        Deviation:
            RecBole drops them silently.
        """
        n = len(self.inter_feat)
        super()._filter_inter_by_user_or_item()  # type: ignore[misc]
        n_lost = n - len(self.inter_feat)
        if n_lost == 0 or self.config["val_interval"]:  # which may filter users and items on purpose
            return
        message = f"{n_lost:,} of {n:,} events are of users or items without a row in the .user or .item file"
        remedy = "complete the file, remove it from load_col, or set filter_inter_by_user_or_item: False"
        if n - n_lost < LEAST_SHARE * n:
            raise UserError(f"{message}: {remedy}")
        self.logger.warning(f"{message} and are left out: {remedy}")

    def _change_feat_format(self: Any) -> None:
        sort_by_exact_time(self)
        super()._change_feat_format()  # type: ignore[misc]
        if self.config["benchmark_filename"] is not None:
            self.histories = _benchmark_histories(self)
            self.inter_feat[HISTORY_ID] = torch.arange(len(self.inter_feat))

    def _split(self: Any) -> list[Any]:
        """The splits of ``eval_args``, US among them."""
        split = self.config["eval_args"]["split"]
        if US not in split or self.config["benchmark_filename"] is not None:
            return list(super().build())  # type: ignore[misc]
        self._change_feat_format()
        users, tokens = self.inter_feat[self.uid_field].numpy(), self.field2id_token[self.uid_field]
        parts, n_unused = split_by_user(users, tokens, split[US], self.config.data_seed)
        n_users = ", ".join(f"{len(np.unique(users[part])):,}" for part in parts)
        self.logger.info(
            f"split by user: {n_users} users for training, validation and test; {n_unused:,} users are not used"
        )
        return [self.copy(self.inter_feat[part]) for part in parts]

    def _describe_split(self: Any, datasets: Sequence[Any]) -> None:
        """Set held_out and popularity, which counts training events (targets and first events, as in Pop)."""
        train, *held_out = [dataset.inter_feat[HISTORY_ID].numpy() for dataset in datasets]
        if self.config["benchmark_filename"] is not None:
            seen = datasets[0].inter_feat[self.iid_field].numpy()
        else:
            past = self.histories
            is_training = np.ones(len(past), dtype=bool)
            is_training[np.concatenate(held_out)] = False
            if not _splits_every_user(self.config):
                is_training &= np.isin(past.begin, past.begin[train])
            seen = past.items[is_training]
        counts, digest = np.bincount(seen, minlength=self.item_num), held_out_digest(datasets[1:])
        for dataset in (self, *datasets):
            dataset.popularity, dataset.held_out = counts, digest


class SequentialRows(_Rows):
    """Mixin for sequential models: adds a history id to every augmented row, and the complete histories."""

    def data_augmentation(self: Any) -> None:
        """RecBole's rows, each with the id of its history."""
        users, items, begin = _sorted_events(self)
        super().data_augmentation()  # type: ignore[misc]
        # RecBole makes one row of every event but each user's first, in this order.
        targets = np.flatnonzero(np.arange(len(users)) != begin)
        self.inter_feat[HISTORY_ID] = torch.from_numpy(targets)
        self.histories = Histories(items, begin, np.arange(len(items)), items)

    def _benchmark_presets(self: Any) -> None:
        self.item_id_list_field = _history_column(self)  # the attribute has this name for any ITEM_ID_FIELD
        super()._benchmark_presets()  # type: ignore[misc]

    def build(self: Any) -> list[Any]:
        """RecBole's splits, and, with a warning, splits in random order, which RecBole refuses for sequences."""
        if self.config["eval_args"]["order"] == "RO" and US not in self.config["eval_args"]["split"]:
            self.logger.warning(
                "order RO: training rows may be later than test rows, so the results do not measure forecasting"
            )
            datasets = list(super(SequentialDataset, self).build())  # type: ignore[misc]
        else:
            datasets = self._split()
        self._describe_split(datasets)
        return datasets


class GeneralRows(_Rows):
    """Mixin for all other models: the rows and splits of the sequential one, and the training users' first events."""

    def _change_feat_format(self: Any) -> None:
        super()._change_feat_format()
        if self.config["benchmark_filename"] is not None:
            return
        users, items, begin = _sorted_events(self)
        ids = np.arange(len(users))
        self.histories = Histories(items, begin, ids, items)
        self.inter_feat[HISTORY_ID] = torch.from_numpy(ids)
        self._first_events: Interaction = self.inter_feat[np.flatnonzero(ids == begin)]
        self.inter_feat = self.inter_feat[np.flatnonzero(ids != begin)]

    def build(self: Any) -> list[Any]:
        """The splits of the sequential dataset, with users' first events, which are not targets, added to training."""
        datasets = self._split()
        self._describe_split(datasets)
        if self.config["benchmark_filename"] is None:
            first = self._first_events
            if not _splits_every_user(self.config):
                users = datasets[0].inter_feat[self.uid_field].numpy()
                first = first[np.flatnonzero(np.isin(first[self.uid_field].numpy(), users))]
            datasets[0].inter_feat = cat_interactions([first, datasets[0].inter_feat])
        return datasets


def latest_rows(users: Ids, history_ids: Ids, n: int) -> Ids:
    """Positions of each user's n latest rows, in the order of the rows."""
    rank = pd.Series(history_ids).groupby(users).rank(ascending=False)
    return np.flatnonzero(rank <= n)


def _splits_every_user(config: Config) -> bool:
    """Whether every user with a target is in training, so that each user's first event is a training event.

    After other splits, the first event of a user without a training row may be later than test events, or one of them.
    """
    by_ratio = "RS" in config["eval_args"]["split"] and config["eval_args"]["group_by"] == "user"
    return by_ratio or "LS" in config["eval_args"]["split"]


def _add_item_file(dataset: Dataset, path: Path) -> None:
    """Add all items of the .item file, as RecBole does if it loads one; the file is read without quoting."""
    if not path.is_file():
        raise UserError(f"catalogue: items needs the file {path}: create it, or set catalogue: interactions")
    tokens = item_tokens(path, dataset.iid_field, dataset.config["field_separator"], dataset.config["encoding"])
    known = dataset.item_feat
    missing = tokens if known is None else sorted(set(tokens) - set(known[dataset.iid_field]))
    added = pd.DataFrame({dataset.iid_field: pd.Series(missing, dtype=dataset.inter_feat[dataset.iid_field].dtype)})
    dataset.item_feat = added if known is None else pd.concat([known, added], ignore_index=True)


def _sorted_events(dataset: Dataset) -> tuple[Ids, Ids, Ids]:
    """Sort the events by user and time (stable, as RecBole does); users, items, and each user's first position."""
    if dataset.time_field is None or dataset.time_field not in dataset.inter_feat:
        raise UserError(
            f"events cannot be ordered: column '{dataset.time_field}' is not loaded from the .inter file; set"
            " TIME_FIELD to the time column and list it in load_col: {inter: [user_id, item_id, timestamp]}"
        )
    dataset.sort(by=[dataset.uid_field, dataset.time_field], ascending=True)
    users = dataset.inter_feat[dataset.uid_field].numpy()
    items = dataset.inter_feat[dataset.iid_field].numpy()
    return users, items, np.searchsorted(users, users)


def _history_column(dataset: Dataset) -> str:
    """Name of the column of pre-split files that holds the items before the target."""
    column = dataset.iid_field + dataset.config["LIST_SUFFIX"]
    if column not in dataset.inter_feat:
        raise UserError(
            f"benchmark_filename needs the column '{column}' (items before the target) in every .inter file: add it to"
            f" the files and to load_col, and set alias_of_item_id: [{column}]"
        )
    if column not in dataset.alias["item_id"]:
        raise UserError(
            f"column '{column}' has separate ids for the items: set alias_of_item_id: [{column}], so that histories"
            " and targets use the same ids"
        )
    return column


def _benchmark_histories(dataset: Dataset) -> Histories:
    """The histories in the item list column of pre-split files."""
    lists = dataset.inter_feat[_history_column(dataset)].numpy()  # [n_rows, longest], padded with 0
    lengths = (lists != 0).sum(axis=1)
    end = np.cumsum(lengths)
    return Histories(lists[lists != 0], end - lengths, end, dataset.inter_feat[dataset.iid_field].numpy())


@cache
def with_history_ids(base: type[Dataset]) -> type[Dataset]:
    """Subclass the dataset class that RecBole uses for a model, so that its rows have history ids."""
    mixin = SequentialRows if issubclass(base, SequentialDataset) else GeneralRows
    name = f"{base.__name__}WithHistoryIds"
    made = type(name, (mixin, base), {"__doc__": base.__doc__, "__module__": __name__})
    globals()[name] = made  # some of RecBole's models pickle their dataset, which needs an importable class
    return made
