"""Groups the rows of a batch by history, once per batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llmtrsr.engine.rows import GroupedPrompts, TokenIds

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """The prompts of a batch, and the position of each row among them.

    Attributes:
        prompts: prompts of the B distinct histories, sorted by id, with candidates in the order of the rows.
        history: index of each row's history. [n_rows]
        slot: index of each row among the candidates of its history. [n_rows]
    """

    prompts: GroupedPrompts
    history: Tensor
    slot: Tensor

    @classmethod
    def of(
        cls, history_ids: Ids, items: Ids, prefix: Callable[[int], TokenIds], candidate: Callable[[int], TokenIds]
    ) -> GroupedRows:
        """Group rows by history.

        Args:
            history_ids: history of each row. [n_rows]
            items: item of each row. [n_rows]
            prefix: returns the token ids of a history's prefix.
            candidate: returns the token ids of an item.
        """
        ids, rows = np.unique(history_ids, return_inverse=True)
        order = np.argsort(rows, kind="stable")
        begins = np.searchsorted(rows[order], np.arange(len(ids)))
        slot = np.empty_like(rows)
        slot[order] = np.arange(len(rows)) - begins[rows[order]]
        candidates = [[candidate(item) for item in own.tolist()] for own in np.split(items[order], begins[1:])]
        prompts = GroupedPrompts([prefix(history_id) for history_id in ids.tolist()], candidates)
        return cls(prompts, torch.from_numpy(rows), torch.from_numpy(slot))

    def table(self, values: Tensor) -> Tensor:
        """Arrange values of the rows by history and candidate, with 0 in unused slots. [n_rows] -> [B, C]"""
        shape = len(self.prompts), int(self.prompts.counts.max())
        return values.new_zeros(shape).index_put((self.history, self.slot), values)

    def part(self, histories: Sequence[int]) -> tuple[Tensor, GroupedRows]:
        """Return the mask of rows that belong to some histories [n_rows], and these rows grouped in the same order."""
        chosen = torch.tensor(sorted(histories))
        rows = torch.isin(self.history, chosen)
        history = torch.searchsorted(chosen, self.history[rows])
        return rows, GroupedRows(self.prompts.chosen(chosen.tolist()), history, self.slot[rows])


class GroupedInteraction(Interaction):  # type: ignore[misc]
    """RecBole's rows with their grouping, which moves with them to a device; indexing returns RecBole's rows."""

    def __init__(self, rows: Interaction, grouped: GroupedRows) -> None:
        super().__init__(rows.interaction)
        self.grouped = grouped

    def to(self, device: torch.device | str, selected_field: str | None = None) -> GroupedInteraction:
        """The same rows on another device."""
        return GroupedInteraction(super().to(device, selected_field), self.grouped)
