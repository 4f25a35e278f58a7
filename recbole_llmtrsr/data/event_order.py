"""The order of events, including events with equal timestamps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from recbole.data.dataset import Dataset

from recbole_llmtrsr.data.tokens import Ids

_FEW = 50  # pairs of events, too few to infer an order from
_NO_ORDER = 0.95  # share of consecutive events with equal timestamps
_SORTED = 0.9  # share of pairs in item order; one half is expected by chance


def sort_by_exact_time(dataset: Dataset) -> None:
    """Sort the events while their times are still exact; every later sort is stable.

    The order of a user's events with equal timestamps is unknown. ``tied_events`` keeps the file's order or shuffles
    them with ``data_seed``, equally for every model. If the file is sorted by item, an ID-based model can learn that
    the next tied event has the next higher id, which item texts do not reveal; this causes a warning.

    Args:
        dataset: before RecBole converts its pandas tables into tensors.

    Deviation:
        RecBole sorts times as float32, in which all Unix seconds of a minute are equal, so that a history may hold
        events later than its target. It always keeps ties in file order, which is the default here, too.
    """
    is_drawn = dataset.config.settings.data.tied_events == "random"
    if dataset.config["benchmark_filename"] is not None or dataset.time_field not in dataset.inter_feat:
        if is_drawn:
            dataset.logger.info("tied_events: random has no effect on pre-split files and on files without timestamps")
        return
    events: pd.DataFrame = dataset.inter_feat
    if is_drawn:
        rng = np.random.default_rng(dataset.config.data_seed)
        events = events.iloc[rng.permutation(len(events))]
    dataset.inter_feat = events = events.sort_values(dataset.time_field, kind="stable")
    n_tied, rises = _tied(
        events[dataset.uid_field].to_numpy(),
        events[dataset.time_field].to_numpy(),
        _ranks(dataset.field2id_token[dataset.iid_field])[events[dataset.iid_field].to_numpy()],
    )
    if n_tied == 0:
        return
    ties = f"{n_tied:,} of {len(events):,} events have the timestamp of the user's previous event"
    if is_drawn:
        dataset.logger.info(f"{ties}; they are shuffled with data_seed {dataset.config.data_seed}")
        if dataset.config.settings.summary.summarizer.startswith("file:"):
            dataset.logger.warning(
                "the file of summaries must have been written with the same tied_events and data_seed; summaries for"
                " another order may reveal the target"
            )
    elif len(rises) >= _FEW and (share := max(rises.mean(), 1 - rises.mean())) > _SORTED:
        dataset.logger.warning(
            f"{ties}, and {share:.0%} of those with two different items are sorted by item: ID-based models can learn"
            " this order, which item texts do not reveal; set tied_events: random"
        )
    elif n_tied > _NO_ORDER * (len(events) - events[dataset.uid_field].nunique()):
        dataset.logger.warning(
            f"{ties}, so {dataset.time_field} hardly orders events, and histories are in file order: set TIME_FIELD to"
            " a column of timestamps, or tied_events: random"
        )
    else:
        dataset.logger.info(f"{ties}; they remain in file order")


def _tied(users: Ids, times: npt.NDArray[np.float64], ranks: Ids) -> tuple[int, npt.NDArray[np.bool_]]:
    """Count events with the timestamp of the user's previous event; for those of two items, whether the ranks rise.

    >>> _tied(np.array([1, 2, 1, 1, 2, 2]), np.array([5, 5, 5, 6, 6, 6]), np.array([3, 1, 7, 2, 9, 9]))
    (2, array([ True]))
    """
    order = np.argsort(users, kind="stable")
    users, times, ranks = users[order], times[order], ranks[order]
    is_tied = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return int(is_tied.sum()), (ranks[1:] > ranks[:-1])[is_tied & (ranks[1:] != ranks[:-1])]


def _ranks(tokens: npt.NDArray[Any]) -> Ids:
    """The rank of every item token; tokens that are all numbers are ranked by value.

    >>> _ranks(np.array(["[PAD]", "10", "9"])).tolist(), _ranks(np.array(["[PAD]", "B10", "B9"])).tolist()
    ([0, 2, 1], [2, 0, 1])
    """
    names = pd.Series(tokens)
    numbers = pd.to_numeric(names[1:], errors="coerce")
    found = names if numbers.isna().any() else pd.concat([pd.Series([-np.inf]), numbers])
    return found.rank(method="first").to_numpy().astype(np.int64) - 1
