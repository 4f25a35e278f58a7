"""Layouts of histories and candidates for one forward pass.

`GroupedPrompts` hold the prompts to score. The shared-prefix layout reads each prefix once, followed by its candidates,
packed without padding. The plain layout has one padded row per (history, candidate) and is the reference that the
shared-prefix layout must reproduce.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

TokenIds = Sequence[int] | npt.NDArray[np.integer[Any]]
KeysAndValues = tuple[Tensor, Tensor]  # [1, H_kv, tokens, d] each


@dataclass(frozen=True, eq=False)
class GroupedPrompts:
    """Prompts of B histories, each with one shared prefix and up to C candidates.

    Attributes:
        prefixes: token ids of the B prefixes.
        candidates: token ids of each history's candidates, including the answer slot.
    """

    prefixes: Sequence[TokenIds]
    candidates: Sequence[Sequence[TokenIds]]

    def __len__(self) -> int:
        return len(self.prefixes)

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Candidates per history. [B]

        Raises:
            ValueError: the lists differ in length, a candidate is empty, or there is no candidate.
        """
        if len(self.prefixes) != len(self.candidates):
            raise ValueError(
                f"{len(self.prefixes)} prefixes but {len(self.candidates)} lists of candidates: give each prefix a list"
            )
        counts = _lengths(self.candidates)
        if counts.sum() == 0:
            raise ValueError("no candidate to score: give at least one history with at least one candidate")
        if not all(map(len, chain.from_iterable(self.candidates))):
            raise ValueError("a candidate has no tokens: it must contain at least the answer slot")
        return counts

    def chosen(self, histories: Iterable[int]) -> GroupedPrompts:
        """Return the given histories, in the given order."""
        histories = list(histories)
        return GroupedPrompts([self.prefixes[i] for i in histories], [self.candidates[i] for i in histories])

    def sizes(self, *, rows_apart: bool) -> list[int]:
        """Return the tokens of a separate forward pass for each history; 0 without candidates. [B]

        Args:
            rows_apart: whether every candidate takes a separate padded row that repeats the prefix.
        """
        if rows_apart:
            pairs = zip(self.prefixes, self.candidates)
            return [len(own) * (len(prefix) + max(map(len, own))) if own else 0 for prefix, own in pairs]
        return [len(p) + sum(map(len, own)) if own else 0 for p, own in zip(self.prefixes, self.candidates)]


@dataclass(frozen=True)
class Extent:
    """The position of one history among the tokens of a batch.

    Attributes:
        prefix: slice of the tokens of all prefixes.
        candidates: slice of the tokens of all candidates.
        n_slots: number of candidates.
        slot_width: tokens of the longest candidate.
        is_even: whether all candidates have this length.
    """

    prefix: slice
    candidates: slice
    n_slots: int
    slot_width: int
    is_even: bool

    @property
    def prefix_length(self) -> int:
        """Number of prefix tokens."""
        return int(self.prefix.stop - self.prefix.start)


@dataclass(frozen=True, eq=False)
class SharedPrefixRows:
    """B histories with up to C candidates each as one row of N tokens: all prefixes, then all candidates.

    Both follow the order of the histories. In every candidate, positions continue from the length of its prefix, as if
    the candidate stood alone behind it. The row contains no padding.

    Attributes:
        input_ids: token ids. [1, N]
        position_ids: positions. [1, N]
        slots: index of each candidate token in the grid [n_slots, slot_width] of its history. [tokens of candidates]
        answer_tokens: index into N of each candidate's last token; 0 for dummy slots. [B, C]
        valid: False for the dummy slots of a history with fewer candidates. [B, C]
        lengths: tokens of every candidate. [candidates of all histories]
        extents: the position of each history among the tokens.
        n_prefix_tokens: number of prefix tokens in the row; 0 if `kept` already holds their keys and values.
        kept: keys and values of the prefixes by attention module. The forward pass fills an empty dictionary; a filled
            one replaces the tokens of the prefixes; None caches nothing.
        derived: results that attention back-ends compute from this layout once, for use in the following layers.
    """

    input_ids: Tensor
    position_ids: Tensor
    slots: Tensor
    answer_tokens: Tensor
    valid: Tensor
    lengths: npt.NDArray[np.int64]
    extents: tuple[Extent, ...]
    n_prefix_tokens: int
    kept: dict[nn.Module, KeysAndValues] | None = None
    derived: dict[Any, Any] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> SharedPrefixRows:
        """Return the rows on another device."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        moved: dict[str, Any] = {name: x.to(device, non_blocking=True) for name, x in values if isinstance(x, Tensor)}
        return replace(self, derived={}, **moved)


@dataclass(frozen=True)
class PlainRows:
    """One padded row for each of N (history, candidate) pairs, sorted by history and candidate.

    Attributes:
        input_ids: token ids. [N, T]
        attention_mask: 1 for tokens, 0 for padding. [N, T]
        answer_positions: index of the last token of each row. [N]
        history: index of each row's history. [N]
        candidate: index of each row's candidate within its history. [N]
        n_histories: number of histories.
        n_slots: largest number of candidates of a history.
    """

    input_ids: Tensor
    attention_mask: Tensor
    answer_positions: Tensor
    history: Tensor
    candidate: Tensor
    n_histories: int
    n_slots: int

    def part(self, rows: slice) -> PlainRows:
        """Return some of the rows, with as little padding as they need."""
        last = self.answer_positions[rows]
        longest = int(last.max()) + 1
        return replace(
            self,
            input_ids=self.input_ids[rows, :longest],
            attention_mask=self.attention_mask[rows, :longest],
            answer_positions=last,
            history=self.history[rows],
            candidate=self.candidate[rows],
        )


def shared_prefix_rows(prompts: GroupedPrompts, kept: dict[nn.Module, KeysAndValues] | None = None) -> SharedPrefixRows:
    """Lay out prompts as shared-prefix rows.

    Args:
        prompts: the prompts of B histories.
        kept: keys and values of the prefixes, to be filled or used; see `SharedPrefixRows`.

    Raises:
        ValueError: as `GroupedPrompts.counts`.
    """
    prefixes, candidates, counts = prompts.prefixes, prompts.candidates, prompts.counts
    prefix_lengths = _lengths(prefixes)
    sections = list(chain.from_iterable(candidates))
    lengths = _lengths(sections)  # [S], of all candidates
    history = np.repeat(np.arange(len(prefixes)), counts)  # [S]
    valid = np.arange(counts.max()) < counts[:, None]
    in_row = [] if kept else prefixes
    n_prefix_tokens = sum(map(len, in_row))

    n_tokens = np.bincount(history, weights=lengths, minlength=len(prefixes)).astype(np.int64)  # [B]
    widths = np.array([max(map(len, own), default=0) for own in candidates], dtype=np.int64)  # [B]
    offsets = ragged_arange(lengths)
    answer_tokens = np.zeros(valid.shape, dtype=np.int64)
    answer_tokens[valid] = n_prefix_tokens + np.cumsum(lengths) - 1
    positions = [ragged_arange(_lengths(in_row)), np.repeat(prefix_lengths[history], lengths) + offsets]
    return SharedPrefixRows(
        input_ids=torch.from_numpy(_joined([*in_row, *sections]))[None],
        position_ids=torch.from_numpy(np.concatenate(positions))[None],
        slots=torch.from_numpy(np.repeat(ragged_arange(counts) * widths[history], lengths) + offsets),
        answer_tokens=torch.from_numpy(answer_tokens),
        valid=torch.from_numpy(valid),
        lengths=lengths,
        extents=tuple(
            Extent(prefix, tokens, int(n), int(width), int(n * width) == tokens.stop - tokens.start)
            for prefix, tokens, n, width in zip(_slices(prefix_lengths), _slices(n_tokens), counts, widths)
        ),
        n_prefix_tokens=n_prefix_tokens,
        kept=kept,
    )


def plain_rows(prompts: GroupedPrompts, pad_id: int) -> PlainRows:
    """Lay out one row per (history, candidate), padded on the right with `pad_id`; raises as `shared_prefix_rows`."""
    counts = prompts.counts
    rows = [[*prefix, *section] for prefix, own in zip(prompts.prefixes, prompts.candidates) for section in own]
    input_ids, lengths = pad_right(rows, pad_id)
    history, candidate = np.nonzero(np.arange(counts.max()) < counts[:, None])
    return PlainRows(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy((np.arange(input_ids.shape[1]) < lengths[:, None]).astype(np.int64)),
        answer_positions=torch.from_numpy(lengths - 1),
        history=torch.from_numpy(history),
        candidate=torch.from_numpy(candidate),
        n_histories=len(prompts),
        n_slots=int(counts.max()),
    )


def pad_right(sections: Sequence[TokenIds], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded ids [N, longest] and lengths [N] of N sections."""
    lengths = _lengths(sections)
    ids = np.full((len(sections), int(lengths.max())), pad_id, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = _joined(sections)
    return ids, lengths


def _lengths(sections: Sequence[Sized]) -> np.ndarray:
    return np.fromiter(map(len, sections), dtype=np.int64, count=len(sections))


def _joined(sections: Sequence[TokenIds]) -> np.ndarray:
    return np.concatenate([np.asarray(section, dtype=np.int64) for section in sections])


def ragged_arange(lengths: np.ndarray) -> np.ndarray:
    """The concatenated ranges 0 .. n - 1 for every n of the lengths.

    >>> ragged_arange(np.array([3, 1, 2])).tolist()
    [0, 1, 2, 0, 0, 1]
    """
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _slices(lengths: np.ndarray) -> list[slice]:
    ends = np.cumsum(lengths).tolist()
    return [slice(end - n, end) for end, n in zip(ends, lengths.tolist())]
