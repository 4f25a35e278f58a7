"""CandidateSet: a candidate file with the ids of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile
from recbole_llmtrsr.data.tokens import Ids


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """The candidates of every ranked history of one split.

    Attributes:
        file: the set with the tokens of the user's files.
        history_ids: history id of each row of the file. [n_rows]
        item_ids: item id of each token of the file. [n_tokens]
        mode: evaluation mode.
        path: path of the saved file.
        counts: additional counts for the report.
    """

    file: CandidateFile
    history_ids: Ids
    item_ids: Ids
    mode: str
    path: Path
    counts: Mapping[str, int]

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {history_id: row for row, history_id in enumerate(self.history_ids.tolist())}

    def __getitem__(self, history_id: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Item ids of a history's candidates, in an arbitrary order, and the mask of the positives."""
        if history_id not in self._rows:
            raise KeyError(f"history {history_id} has no candidate set: it belongs to another split, or was left out")
        row = self._rows[history_id]
        where = slice(self.file.offsets[row], self.file.offsets[row + 1])
        return self.item_ids[self.file.items[where]], self.file.is_positive[where]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return self.file.digest

    def report(self) -> dict[str, Any]:
        """The entry of result.json: hash, numbers of candidates and positives, and counts."""
        return {
            "hash": self.digest,
            "mode": self.mode,
            "file": str(self.path),
            "n_histories": len(self.file),
            "n_per_history": _spread(self.file.lengths),
            "positives_per_history": _spread(self.file.n_positives),
            **self.counts,
        }


def _spread(numbers: Ids) -> int | list[float]:
    """The number if all are equal, else minimum, mean and maximum."""
    if len(np.unique(numbers)) < 2:
        return int(numbers[0]) if len(numbers) else 0
    return [int(numbers.min()), round(float(numbers.mean()), 3), int(numbers.max())]
