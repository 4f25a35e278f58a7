"""Finds the blocks of queries and keys that interact in shared-prefix rows, without the N x N mask.

Each token has three labels: its history, its slot (a number for every candidate of the batch, -1 for prefixes) and its
position. It attends to the keys of its history that belong to the prefix or to its slot and have no later position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_llmtrsr.engine.rows import SharedPrefixRows, ragged_arange

PREFIX = -1


@dataclass(frozen=True)
class Labels:
    """Labels of N tokens; each array has the shape [N]."""

    history: np.ndarray
    slot: np.ndarray
    position: np.ndarray

    @classmethod
    def of(cls, rows: SharedPrefixRows) -> tuple[Labels, Labels]:
        """Labels of the queries in the row, and of the keys in the row and in the cache."""
        prefix_lengths = np.array([extent.prefix_length for extent in rows.extents])
        n_slots = np.array([extent.n_slots for extent in rows.extents])
        histories = np.arange(len(rows.extents))
        n_prefix = int(prefix_lengths.sum())
        owner = np.repeat(histories, n_slots)  # of every slot
        keys = cls(
            history=np.concatenate([np.repeat(histories, prefix_lengths), np.repeat(owner, rows.lengths)]),
            slot=np.concatenate([np.full(n_prefix, PREFIX), np.repeat(np.arange(len(owner)), rows.lengths)]),
            position=np.concatenate(
                [
                    ragged_arange(prefix_lengths),
                    ragged_arange(rows.lengths) + np.repeat(prefix_lengths[owner], rows.lengths),
                ]
            ),
        )
        in_row = slice(n_prefix - rows.n_prefix_tokens, None)
        return cls(keys.history[in_row], keys.slot[in_row], keys.position[in_row]), keys


def meeting_blocks(queries: Labels, keys: Labels, size: int, window: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of `size` queries x `size` keys that interact, derived from the ranges of their labels.

    Args:
        queries: labels of the queries.
        keys: labels of the keys.
        size: queries and keys of a block.
        window: size of the sliding window, if the layer has one.

    Returns:
        Two bool arrays [query blocks, key blocks]: blocks in which some query may attend to some key, and among them
        blocks in which every query attends to every key.
    """
    q, k = _Ranges.of(queries, size), _Ranges.of(keys, size)
    overlap = (q.history[0][:, None] <= k.history[1]) & (k.history[0] <= q.history[1][:, None])
    same_slot = (q.slot[0][:, None] <= k.slot[1]) & (k.slot[0] <= q.slot[1][:, None])
    meets = overlap & (same_slot | (k.slot[0] == PREFIX)) & (q.position[1][:, None] >= k.position[0])
    if window is not None:
        return meets & (q.position[0][:, None] - k.position[1] < window), np.zeros_like(meets)
    one_history = (q.history[0] == q.history[1])[:, None] & (k.history[0] == k.history[1])
    behind = q.position[0][:, None] >= k.position[1]
    return meets, meets & one_history & behind & (k.slot[1] == PREFIX) & q.complete[:, None] & k.complete


@dataclass(frozen=True)
class _Ranges:
    """Minimum and maximum label of every block."""

    history: tuple[np.ndarray, np.ndarray]
    slot: tuple[np.ndarray, np.ndarray]
    position: tuple[np.ndarray, np.ndarray]
    complete: np.ndarray

    @classmethod
    def of(cls, labels: Labels, size: int) -> _Ranges:
        begins = np.arange(0, len(labels.history), size)

        def ends(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.minimum.reduceat(x, begins), np.maximum.reduceat(x, begins)

        complete = begins + size <= len(labels.history)
        return cls(ends(labels.history), ends(labels.slot), ends(labels.position), complete)
