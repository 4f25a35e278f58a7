"""Hard negatives: in the place of negatives by chance, what a retriever finds for the same history."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


class RetrievedNegatives:
    """A retriever's best items of training histories, to draw negatives from.

    Args:
        history_ids: all different. [n]
        top: best items of each history, the target perhaps among them. [n, k]
        share: probability of a negative to be one of them.
    """

    def __init__(self, history_ids: Ids, top: Ids, share: float) -> None:
        self._order = np.argsort(history_ids)
        self._ids, self._top, self._share = history_ids, top, share

    def in_place_of(self, negatives: Ids, history_ids: Ids, targets: Ids) -> Ids:
        """Negatives, each with that probability replaced by a retrieved item that is not the target.

        Retrieved ones of a history are all different; where they are fewer than the negatives, some negatives stay.
        Draws from NumPy's global state, as RecBole's sampler does.

        Args:
            negatives: item ids. [m, n]
            history_ids: of the n columns.
            targets: item ids of the n columns.

        Returns:
            item ids. [m, n]
        """
        rows = self._order[np.searchsorted(self._ids, history_ids, sorter=self._order)]
        top = self._top[rows]  # [n, k]
        keys = np.random.random(top.shape)
        keys[top == targets[:, None]] = np.inf
        order = np.argsort(keys, axis=1)[:, : len(negatives)]
        drawn = np.take_along_axis(top, order, axis=1).T  # [<= m, n]
        is_drawn = np.isfinite(np.take_along_axis(keys, order, axis=1).T)
        is_drawn &= np.random.random(drawn.shape) < self._share
        replaced = negatives.copy()
        replaced[: len(drawn)][is_drawn] = drawn[is_drawn]
        return replaced
