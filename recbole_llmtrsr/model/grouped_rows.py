"""Groups the rows of a batch by history, once, when the loader yields the batch."""

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
    """The prompts of a batch's rows, and where each row is among them.

    Attributes:
        prompts: of the B distinct histories by their ids, the candidates of each in the order of the rows.
        history: which history a row belongs to. [n_rows]
        slot: which candidate of its history a row is. [n_rows]
    """

    prompts: GroupedPrompts
    history: Tensor
    slot: Tensor

    @classmethod
    def of(
        cls, history_ids: Ids, items: Ids, prefix: Callable[[int], TokenIds], candidate: Callable[[int], TokenIds]
    ) -> GroupedRows:
        """Group rows of history and item [n_rows] each, by the token ids of a history's prefix and of an item."""
        ids, rows = np.unique(history_ids, return_inverse=True)
        order = np.argsort(rows, kind="stable")
        begins = np.searchsorted(rows[order], np.arange(len(ids)))
        slot = np.empty_like(rows)
        slot[order] = np.arange(len(rows)) - begins[rows[order]]
        candidates = [[candidate(item) for item in own.tolist()] for own in np.split(items[order], begins[1:])]
        prompts = GroupedPrompts([prefix(history_id) for history_id in ids.tolist()], candidates)
        return cls(prompts, torch.from_numpy(rows), torch.from_numpy(slot))

    def table(self, values: Tensor) -> Tensor:
        """Values of the rows by history and candidate, 0 where a history has fewer. [n_rows] -> [B, C]"""
        shape = len(self.prompts), int(self.prompts.counts.max())
        return values.new_zeros(shape).index_put((self.history, self.slot), values)

    def part(self, histories: Sequence[int]) -> tuple[Tensor, GroupedRows]:
        """Which rows belong to some of the histories [n_rows], and these grouped; the histories keep their order."""
        chosen = torch.tensor(sorted(histories))
        rows = torch.isin(self.history, chosen)
        history = torch.searchsorted(chosen, self.history[rows])
        return rows, GroupedRows(self.prompts.chosen(chosen.tolist()), history, self.slot[rows])


class GroupedInteraction(Interaction):  # type: ignore[misc]
    """RecBole's rows with their grouping, which goes with them to a device; a choice of rows is RecBole's again."""

    def __init__(self, rows: Interaction, grouped: GroupedRows) -> None:
        super().__init__(rows.interaction)
        self.grouped = grouped

    def to(self, device: torch.device | str, selected_field: str | None = None) -> GroupedInteraction:
        """The same rows on another device."""
        return GroupedInteraction(super().to(device, selected_field), self.grouped)
