"""The order of events, including those at one time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from recbole.data.dataset import Dataset

from recbole_llmtrsr.data.tokens import Ids

_FEW = 50  # pairs of events, too few to infer an order from
_NO_ORDER = 0.95  # share of neighbours at one time
_SORTED = 0.9  # share of pairs; by chance it is one half


def sort_by_exact_time(dataset: Dataset) -> None:
    """Sort the events while their times are still exact; every later sort is stable.

    Events of a user at one time have no known order. ``tied_events`` keeps the file's order or draws one with
    ``data_seed``, the same for every model. In a file sorted by item, a model of ids can learn that the next tied event
    has the next higher id, which no text tells; a warning says so.

    Args:
        dataset: before RecBole turns its pandas tables into tensors.

    Deviation:
        RecBole sorts times as float32, in which all unix seconds of a minute are equal, so that a history may hold
        events later than its target; and it always leaves ties in file order, which is the default here too.
    """
    is_drawn = dataset.config.settings.data.tied_events == "random"
    if dataset.config["benchmark_filename"] is not None or dataset.time_field not in dataset.inter_feat:
        if is_drawn:
            dataset.logger.info("tied_events: random has nothing to draw in files that are split, or have no times")
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
    told = f"{n_tied:,} of {len(events):,} events have the time of their user's event before them"
    if is_drawn:
        dataset.logger.info(f"{told}; their order is drawn with data_seed {dataset.config.data_seed}")
        if dataset.config.settings.summary.summarizer.startswith("file:"):
            dataset.logger.warning(
                "the file of summaries must have been written for the same order: with this tied_events and data_seed;"
                " those of another may tell the target"
            )
    elif len(rises) >= _FEW and (share := max(rises.mean(), 1 - rises.mean())) > _SORTED:
        dataset.logger.warning(
            f"{told}, and {share:.0%} of those of two items are sorted by item: models of ids can learn this"
            " order, which texts do not tell; set tied_events: random"
        )
    elif n_tied > _NO_ORDER * (len(events) - events[dataset.uid_field].nunique()):
        dataset.logger.warning(
            f"{told}, so {dataset.time_field} tells nearly no order, and histories are in file order: set TIME_FIELD to"
            " a column of times, or tied_events: random"
        )
    else:
        dataset.logger.info(f"{told}; they stay in file order")


def _tied(users: Ids, times: npt.NDArray[np.float64], ranks: Ids) -> tuple[int, npt.NDArray[np.bool_]]:
    """Tied events, of events sorted by time: the number at the time of their user's event before; and, where the two
    items differ, whether their ranks rise.

    >>> _tied(np.array([1, 2, 1, 1, 2, 2]), np.array([5, 5, 5, 6, 6, 6]), np.array([3, 1, 7, 2, 9, 9]))
    (2, array([ True]))
    """
    order = np.argsort(users, kind="stable")
    users, times, ranks = users[order], times[order], ranks[order]
    is_tied = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return int(is_tied.sum()), (ranks[1:] > ranks[:-1])[is_tied & (ranks[1:] != ranks[:-1])]


def _ranks(tokens: npt.NDArray[Any]) -> Ids:
    """The rank of every name of an item; that of numbers is by their value.

    >>> _ranks(np.array(["[PAD]", "10", "9"])).tolist(), _ranks(np.array(["[PAD]", "B10", "B9"])).tolist()
    ([0, 2, 1], [2, 0, 1])
    """
    names = pd.Series(tokens)
    numbers = pd.to_numeric(names[1:], errors="coerce")
    found = names if numbers.isna().any() else pd.concat([pd.Series([-np.inf]), numbers])
    return found.rank(method="first").to_numpy().astype(np.int64) - 1
