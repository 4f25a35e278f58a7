"""Token sections of histories and candidates, laid out for one forward pass.

`GroupedPrompts` are what is scored. Shared: every history once, its prefix and then all its candidates, packed without
padding. Plain: one padded row per (history, candidate), the reference that the shared layout must reproduce.
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
    """B histories, each with the prefix that its prompts share and the candidates that they end with.

    Attributes:
        prefixes: token ids of each of the B prefixes.
        candidates: for each history the token ids of its up to C candidates, answer slot included.
    """

    prefixes: Sequence[TokenIds]
    candidates: Sequence[Sequence[TokenIds]]

    def __len__(self) -> int:
        return len(self.prefixes)

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Candidates per history. [B]

        Raises:
            ValueError: the lists do not match, a candidate is empty, or there is no candidate at all.
        """
        if len(self.prefixes) != len(self.candidates):
            raise ValueError(
                f"{len(self.prefixes)} prefixes but {len(self.candidates)} lists of candidates: give one list each"
            )
        counts = _lengths(self.candidates)
        if counts.sum() == 0:
            raise ValueError("no candidate to score: give at least one history with at least one candidate")
        if not all(map(len, chain.from_iterable(self.candidates))):
            raise ValueError("a candidate has no tokens: its section must hold at least the answer slot")
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
    """The place of one history among the tokens of all.

    Attributes:
        prefix: its part of the prefixes' tokens.
        candidates: its part of the candidates' tokens.
        n_slots: number of its candidates.
        slot_width: tokens of the longest of them.
        is_even: all candidates are that long.
    """

    prefix: slice
    candidates: slice
    n_slots: int
    slot_width: int
    is_even: bool

    @property
    def prefix_length(self) -> int:
        """Tokens of its prefix."""
        return int(self.prefix.stop - self.prefix.start)


@dataclass(frozen=True, eq=False)
class SharedPrefixRows:
    """B histories with up to C candidates each, as one row of N real tokens: all prefixes, then all candidates.

    Both come in the order of the histories. Positions restart at the prefix's own length in every candidate, so each
    sits where it would sit alone. There is no padding, so the work is that of the tokens alone.

    Attributes:
        input_ids: [1, N].
        position_ids: [1, N].
        slots: where a candidate's token lies in a grid [n_slots, slot_width] of its history. [tokens of candidates]
        answer_tokens: index into N of each candidate's last token; 0 for dummy slots. [B, C]
        valid: False for the dummy slots of a history with fewer candidates. [B, C]
        lengths: tokens of every candidate. [candidates of all histories]
        n_prefix_tokens: how many of the N tokens are prefixes': none where `kept` already holds their keys.
        kept: keys and values of the prefixes by attention module. None forgets them; an empty dictionary is filled
            by the forward pass, a filled one stands in for the prefixes' tokens.
        derived: cache of what attention back-ends compute from this layout, for the layers that follow.
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
    """N = number of (history, candidate) pairs, in that order; `history` and `candidate` index the pair."""

    input_ids: Tensor  # [N, T]
    attention_mask: Tensor  # [N, T]
    answer_positions: Tensor  # [N], index into the row of its last token
    history: Tensor  # [N]
    candidate: Tensor  # [N]
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
    """Lay out every history once.

    Args:
        kept: keys and values of their prefixes, to be filled or used; see `SharedPrefixRows`.

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
    """Lay out one row per (history, candidate), padded on the right with `pad_id`; errors as `shared_prefix_rows`."""
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
    """Ids [N, longest] and lengths [N] of N sections."""
    lengths = _lengths(sections)
    ids = np.full((len(sections), int(lengths.max())), pad_id, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = _joined(sections)
    return ids, lengths


def _lengths(sections: Sequence[Sized]) -> np.ndarray:
    return np.fromiter(map(len, sections), dtype=np.int64, count=len(sections))


def _joined(sections: Sequence[TokenIds]) -> np.ndarray:
    return np.concatenate([np.asarray(section, dtype=np.int64) for section in sections])


def ragged_arange(lengths: np.ndarray) -> np.ndarray:
    """0 .. n - 1 for every n of the lengths, one after another.

    >>> ragged_arange(np.array([3, 1, 2])).tolist()
    [0, 1, 2, 0, 0, 1]
    """
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _slices(lengths: np.ndarray) -> list[slice]:
    ends = np.cumsum(lengths).tolist()
    return [slice(end - n, end) for end, n in zip(ends, lengths.tolist())]
