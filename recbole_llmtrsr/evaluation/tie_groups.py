"""Tie groups: a ranking by scores, without an order among equal scores.

The group of a positive consists of the candidates with the same score s. With

    n_better = #{score > s},   n_equal = #{score = s},   n_positives = #{positive, score = s}

the group covers the places n_better + 1 ... n_better + n_equal, and the positive takes each of them with the same
probability. Groups without a positive affect no metric. The order of the columns has no influence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recbole_llmtrsr.errors import UserError

Ints = npt.NDArray[np.int64]

_SCORES_AT_ONCE = 2**22  # bounds the temporary arrays to some tens of MiB


@dataclass(frozen=True)
class TieGroups:
    """Groups that contain positives, sorted by row and within a row from best to worst; every row has at least one.

    Attributes:
        row: row of each group. [n_groups]
        n_better: number of candidates with a higher score. [n_groups]
        n_equal: number of candidates with this score, including positives. [n_groups]
        n_positives: number of positives with this score. [n_groups]
        row_candidates: number of candidates of each row. [n_rows]
        row_positives: number of positives of each row. [n_rows]
    """

    row: Ints
    n_better: Ints
    n_equal: Ints
    n_positives: Ints
    row_candidates: Ints
    row_positives: Ints


def tie_groups(scores: Tensor, positive_rows: Tensor, positive_items: Tensor) -> TieGroups:
    """Find the tie groups of a batch.

    Args:
        scores: scores, compared exactly; -inf for items that are not candidates. [n_rows, n_items]
        positive_rows: row index of each positive. [n_positives]
        positive_items: column index of each positive; duplicates count once. [n_positives]

    Raises:
        UserError: the score of a positive is -inf.
        ValueError: a row has no positive.
    """
    n_rows, n_items = scores.shape
    rows, items = positive_rows.to(scores.device), positive_items.to(scores.device)
    named = torch.unique(rows * n_items + items)  # sorted, so by row
    rows, items = named // n_items, named % n_items
    of_row = torch.bincount(rows, minlength=n_rows)
    if bool((of_row == 0).any()):
        raise ValueError(f"{int((of_row == 0).sum())} of {n_rows} rows have no positive: every row needs one")
    unscored = int(torch.isneginf(scores[rows, items]).sum())
    if unscored:
        raise UserError(
            f"the model scored {unscored} of {len(items)} targets -inf, which marks items that are not candidates:"
            " scores must be finite; if the model diverged in training, lower learning_rate"
        )
    n_better, n_equal = _counts(scores, items, of_row)
    # Positives with equal scores have equal n_better; unique sorts by row, then from the best.
    group, member, size = torch.unique(rows * (n_items + 1) + n_better, return_inverse=True, return_counts=True)
    equal_of_group = torch.empty_like(group).scatter_(0, member, n_equal)
    n_candidates = (scores != -torch.inf).sum(1, dtype=torch.int32)
    found = (group // (n_items + 1), group % (n_items + 1), equal_of_group, size, n_candidates, of_row)
    return TieGroups(*(part.cpu().numpy().astype(np.int64, copy=False) for part in found))


def random_ranking(n_candidates: npt.ArrayLike, n_positives: npt.ArrayLike) -> TieGroups:
    """Return the groups of a constant score, whose expected metrics are those of a random ranking.

    Args:
        n_candidates: number of candidates of each row, including positives. [n_rows]
        n_positives: number of positives of each row. [n_rows]
    """
    candidates, positives = np.asarray(n_candidates, dtype=np.int64), np.asarray(n_positives, dtype=np.int64)
    rows = np.arange(len(candidates))
    return TieGroups(rows, np.zeros_like(candidates), candidates, positives, candidates, positives)


def _counts(scores: Tensor, items: Tensor, of_row: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of candidates better than and equal to each positive, sorted by row, in any order within a row."""
    n_better, n_equal = torch.empty_like(items), torch.empty_like(items)
    first = of_row.cumsum(0) - of_row  # index of the first positive of each row
    # Nearly all rows have one positive, for which a comparison is ten times as fast as a search among several.
    n_at_once = max(1, _SCORES_AT_ONCE // scores.shape[1])
    for alike, count in ((of_row == 1, _compared), (of_row > 1, _searched)):
        found = torch.nonzero(alike).squeeze(1)
        for rows in torch.split(found, n_at_once) if len(found) else ():
            places = torch.arange(int(of_row[rows].max()), device=scores.device)
            is_one = places < of_row[rows, None]  # [n, most positives]
            entries = torch.where(is_one, first[rows, None] + places, 0)
            block = scores[rows]
            values = block.gather(1, items[entries]).masked_fill(~is_one, torch.inf).sort(dim=1).values
            better, at_least = count(block, values)
            n_better[entries[is_one]] = better[is_one]
            n_equal[entries[is_one]] = (at_least - better)[is_one]
    return n_better, n_equal


def _compared(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Count scores above, and at or above, the single value of each row. [n, n_items], [n, 1] -> twice [n, 1]"""
    better = (scores > values).sum(1, keepdim=True, dtype=torch.int32)
    at_least = (scores >= values).sum(1, keepdim=True, dtype=torch.int32)
    return better.long(), at_least.long()


def _searched(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Count scores above, and at or above, each of a row's ascending values. [n, n_items], [n, m] -> twice [n, m]

    A score is above value j, counted from 0, if more than j values are below the score; it is at or above value j if
    more than j values are not above the score.
    """
    n, m = values.shape
    offset = torch.arange(n, device=scores.device)[:, None] * (m + 1)
    above = []
    for or_equal in (False, True):
        passed = torch.searchsorted(values, scores, right=or_equal, out_int32=True)  # [n, n_items], 0 ... m
        tally = torch.bincount((passed + offset).reshape(-1), minlength=n * (m + 1)).view(n, m + 1)
        above.append(tally.flip(1).cumsum(1).flip(1)[:, 1:])
    return above[0], above[1]
