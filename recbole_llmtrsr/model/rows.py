"""Token sections of histories and candidates, laid out as rows of a batch.

Shared: one row per history, `prefix | slot 0 | slot 1 | ...`, all slots of equal width. Plain: one row per
(history, candidate), the reference that the shared layout must reproduce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Section = Sequence[int]
_Rows = TypeVar("_Rows", "SharedPrefixRows", "PlainRows")


@dataclass(frozen=True)
class SharedPrefixRows:
    """B histories with up to C candidates each; T = prefix_width + n_slots * slot_width tokens a row.

    Positions restart at the prefix's own length in every slot, so each candidate sits where it would sit alone.
    Everything is padded on the right: a causal prefix never reads its padding, and only candidates need a mask.

    The padding exists for attention alone. Everything else of a backbone works on single tokens and gets the N real
    ones in one row, `tokens`; `padded` and `packed` lead from one form to the other.
    """

    input_ids: Tensor  # [B, T]
    position_ids: Tensor  # [B, T]
    prefix_lengths: Tensor  # [B]
    answer_positions: Tensor  # [B, C], index into the row of each candidate's last token
    valid: Tensor  # [B, C], False for the dummy slots of a history with fewer candidates
    tokens: Tensor  # [N], where the real tokens lie among all B * T
    answer_tokens: Tensor  # [B, C], index into `tokens` of each candidate's last token; 0 for dummy slots
    prefix_width: int
    n_slots: int
    slot_width: int

    def to(self, device: torch.device | str) -> SharedPrefixRows:
        """The same rows on another device."""
        return _moved(self, device)

    def packed(self, x: Tensor) -> Tensor:
        """The real tokens' part of [B, T, ...], as [1, N, ...]."""
        return x.flatten(0, 1)[self.tokens][None]

    def padded(self, x: Tensor) -> Tensor:
        """[1, N, ...] laid out as [B, T, ...], with zeros for padding."""
        shape = self.input_ids.shape
        return x.new_zeros(shape.numel(), *x.shape[2:]).index_copy(0, self.tokens, x[0]).view(*shape, *x.shape[2:])


@dataclass(frozen=True)
class PlainRows:
    """N = number of (history, candidate) pairs, in that order; `history` and `candidate` index the pair."""

    input_ids: Tensor  # [N, T]
    attention_mask: Tensor  # [N, T]
    answer_positions: Tensor  # [N], index into the row of its last token
    history: Tensor  # [N]
    candidate: Tensor  # [N]
    n_histories: int
    n_slots: int

    def to(self, device: torch.device | str) -> PlainRows:
        """The same rows on another device."""
        return _moved(self, device)


def shared_prefix_rows(
    prefixes: Sequence[Section], candidates: Sequence[Sequence[Section]], pad_id: int
) -> SharedPrefixRows:
    """Lay out one row per history.

    Args:
        prefixes: token ids of each of the B prefixes.
        candidates: for each history the token ids of its candidates, answer slot included.
        pad_id: id for padding; never attended to by a real token.

    Raises:
        ValueError: the lists do not match, a candidate or every prefix is empty, or there is no candidate at all.
    """
    counts = _checked_counts(prefixes, candidates)
    n_histories, n_slots = len(prefixes), int(counts.max())
    valid = np.arange(n_slots) < counts[:, None]
    prefix_ids, prefix_lengths = _pad_right(prefixes, pad_id)
    section_ids, section_lengths = _pad_right(list(chain.from_iterable(candidates)), pad_id)
    prefix_width, slot_width = prefix_ids.shape[1], section_ids.shape[1]

    slot_ids = np.full((n_histories, n_slots, slot_width), pad_id, dtype=np.int64)
    slot_ids[valid] = section_ids
    lengths = np.ones((n_histories, n_slots), dtype=np.int64)
    lengths[valid] = section_lengths

    # Padding repeats the last real position, so that no position exceeds what the plain row would need:
    # learned position tables end exactly where the longest prompt may end.
    prefix_positions = np.minimum(np.arange(prefix_width), np.maximum(prefix_lengths, 1)[:, None] - 1)
    slot_positions = prefix_lengths[:, None, None] + np.minimum(np.arange(slot_width), lengths[..., None] - 1)
    slot_starts = prefix_width + slot_width * np.arange(n_slots)
    answer_positions = slot_starts + lengths - 1  # [B, C]
    in_slot = (np.arange(slot_width) < lengths[..., None]) & valid[..., None]
    real = np.concatenate(
        [np.arange(prefix_width) < prefix_lengths[:, None], in_slot.reshape(n_histories, -1)], axis=1
    )  # [B, T]
    order = np.cumsum(real).reshape(real.shape) - 1
    answer_tokens = np.where(valid, np.take_along_axis(order, answer_positions, axis=1), 0)
    return SharedPrefixRows(
        input_ids=torch.from_numpy(np.concatenate([prefix_ids, slot_ids.reshape(n_histories, -1)], axis=1)),
        position_ids=torch.from_numpy(
            np.concatenate([prefix_positions, slot_positions.reshape(n_histories, -1)], axis=1)
        ),
        prefix_lengths=torch.from_numpy(prefix_lengths),
        answer_positions=torch.from_numpy(answer_positions),
        valid=torch.from_numpy(valid),
        tokens=torch.from_numpy(np.flatnonzero(real)),
        answer_tokens=torch.from_numpy(answer_tokens),
        prefix_width=prefix_width,
        n_slots=n_slots,
        slot_width=slot_width,
    )


def plain_rows(prefixes: Sequence[Section], candidates: Sequence[Sequence[Section]], pad_id: int) -> PlainRows:
    """Lay out one row per (history, candidate); arguments and errors as for `shared_prefix_rows`."""
    counts = _checked_counts(prefixes, candidates)
    rows = [[*prefix, *section] for prefix, own in zip(prefixes, candidates) for section in own]
    input_ids, lengths = _pad_right(rows, pad_id)
    history, candidate = np.nonzero(np.arange(counts.max()) < counts[:, None])
    return PlainRows(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy((np.arange(input_ids.shape[1]) < lengths[:, None]).astype(np.int64)),
        answer_positions=torch.from_numpy(lengths - 1),
        history=torch.from_numpy(history),
        candidate=torch.from_numpy(candidate),
        n_histories=len(prefixes),
        n_slots=int(counts.max()),
    )


def _checked_counts(prefixes: Sequence[Section], candidates: Sequence[Sequence[Section]]) -> np.ndarray:
    """Candidates per history, [B]."""
    if len(prefixes) != len(candidates):
        raise ValueError(f"{len(prefixes)} prefixes but {len(candidates)} lists of candidates: give one list each")
    counts = np.fromiter(map(len, candidates), dtype=np.int64, count=len(candidates))
    if counts.sum() == 0:
        raise ValueError("no candidate to score: give at least one history with at least one candidate")
    if not all(map(len, chain.from_iterable(candidates))):
        raise ValueError("a candidate has no tokens: its section must hold at least the answer slot")
    if not any(map(len, prefixes)):
        raise ValueError("every prefix is empty: put the instruction there")
    return counts


def _pad_right(sections: Sequence[Section], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [N, longest] and lengths [N] of N sections."""
    lengths = np.fromiter(map(len, sections), dtype=np.int64, count=len(sections))
    ids = np.full((len(sections), int(lengths.max())), pad_id, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = np.fromiter(
        chain.from_iterable(sections), dtype=np.int64, count=int(lengths.sum())
    )
    return ids, lengths


def _moved(rows: _Rows, device: torch.device | str) -> _Rows:
    values: dict[str, Any] = {f.name: getattr(rows, f.name) for f in fields(rows)}
    moved = {name: x.to(device, non_blocking=True) for name, x in values.items() if isinstance(x, Tensor)}
    return type(rows)(**(values | moved))
