"""Hard negatives: a retriever's top items for a history replace random negatives."""

from __future__ import annotations

import numpy as np

from recbole_llmtrsr.data.tokens import Ids


def without_later_targets(top: Ids, rows: Ids, users: Ids, history_ids: Ids, targets: Ids) -> Ids:
    """Replace by 0 the retrieved items that the user chooses in training at that time or later. [n, k]

    Args:
        top: items retrieved for each history. [n, k]
        rows: training row of each of these histories. [n]
        users: users of all training rows. [n_rows]
        history_ids: history ids of all training rows, in the order of a user's events. [n_rows]
        targets: targets of all training rows. [n_rows]

    >>> users, history_ids, targets = np.array([[1, 1, 2], [5, 6, 9], [30, 31, 30]])
    >>> top = np.array([[30, 31, 32], [30, 31, 32], [30, 31, 32]])
    >>> without_later_targets(top, np.array([0, 1, 2]), users, history_ids, targets).tolist()
    [[0, 0, 32], [30, 0, 32], [0, 31, 32]]
    """
    order = np.lexsort((history_ids, users))
    place = np.argsort(order)[rows]
    ends = np.searchsorted(users[order], users[rows], side="right")
    sorted_targets = targets[order]
    chosen = [np.isin(items, sorted_targets[begin:end]) for items, begin, end in zip(top, place, ends, strict=True)]
    return np.where(np.array(chosen), 0, top)


class RetrievedNegatives:
    """Draws negatives from a retriever's top items for the training histories.

    Args:
        history_ids: history ids, all different. [n]
        top: top items for each history; 0 marks empty places. [n, k]
        share: probability that a negative is one of them.
    """

    def __init__(self, history_ids: Ids, top: Ids, share: float) -> None:
        self._order = np.argsort(history_ids)
        self._ids, self._top, self._share = history_ids, top, share

    def in_place_of(self, negatives: Ids, history_ids: Ids) -> Ids:
        """Replace each negative with probability `share` by a retrieved item. [m, n]

        The drawn items of a history are all different; if they are fewer than the negatives, some negatives remain.
        Draws from NumPy's global state, as RecBole's sampler does.

        Args:
            negatives: item ids. [m, n]
            history_ids: history ids of the columns. [n]
        """
        rows = self._order[np.searchsorted(self._ids, history_ids, sorter=self._order)]
        top = self._top[rows]  # [n, k]
        keys = np.random.random(top.shape)
        keys[top == 0] = np.inf
        order = np.argsort(keys, axis=1)[:, : len(negatives)]
        drawn = np.take_along_axis(top, order, axis=1).T  # [<= m, n]
        is_drawn = np.isfinite(np.take_along_axis(keys, order, axis=1).T)
        is_drawn &= np.random.random(drawn.shape) < self._share
        replaced = negatives.copy()
        replaced[: len(drawn)][is_drawn] = drawn[is_drawn]
        return replaced
