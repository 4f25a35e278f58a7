"""A split with each user's last event as target, and the options that candidate sets read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmtrsr.data.candidates.candidate_set import CandidateSet
from recbole_llmtrsr.data.histories import HISTORY_ID, Histories

ITEMS = tuple(f"i{n}" for n in range(1, 13))
SEQUENCES = {"ann": ["i1", "i2", "i3"], "bob": ["i4", "i4", "i5", "i6"], "cat": ["i7", "i1"]}


class Options(dict):
    """What candidate sets read of a Config."""

    def __init__(self, folder: Any, mode: str = "uni3", exclusion: str = "history", seed: int = 1, **more: Any) -> None:
        super().__init__(
            dataset="toy",
            data_path=str(folder),
            eval_args={"mode": {"valid": mode, "test": mode}},
            ITEM_ID_FIELD="item_id",
            field_separator="\t",
            encoding=None,
        )
        self.data_seed = seed
        evaluation = {"candidate_dir": str(folder), "candidate_exclusion": exclusion, "catalogue": "interactions"}
        self.settings = SimpleNamespace(
            evaluation=SimpleNamespace(**{**evaluation, "candidate_category": "category", **more})
        )


@pytest.fixture
def options() -> type[Options]:
    return Options


@pytest.fixture
def make_dataset() -> Callable[..., Any]:
    """Ids follow the order of ``items`` and ``sequences``."""

    def make(sequences: Mapping[str, Sequence[str]] = SEQUENCES, items: Sequence[str] = ITEMS) -> Any:
        ids = {token: i for i, token in enumerate(["[PAD]", *items])}
        users = {token: i for i, token in enumerate(["[PAD]", *sequences])}
        flat = np.array([ids[item] for sequence in sequences.values() for item in sequence])
        lengths = np.array([len(sequence) for sequence in sequences.values()])
        starts = np.cumsum(lengths) - lengths
        last = starts + lengths - 1
        rows = {
            HISTORY_ID: torch.from_numpy(last),
            "user_id": torch.arange(1, len(users)),
            "item_id": torch.from_numpy(flat[last]),
        }
        return SimpleNamespace(
            inter_feat=rows,
            uid_field="user_id",
            iid_field="item_id",
            field2id_token={"user_id": np.array(list(users)), "item_id": np.array(list(ids))},
            histories=Histories(flat, np.repeat(starts, lengths), np.arange(len(flat)), flat),
            popularity=np.bincount(np.delete(flat, last), minlength=len(ids)),
        )

    return make


@pytest.fixture
def by_user() -> Callable[[CandidateSet], dict[str, tuple[set[str], set[str]]]]:
    """Positives and negatives of every user of a set in which each has one row."""

    def sets(made: CandidateSet) -> dict[str, tuple[set[str], set[str]]]:
        return {user: (set(positives), set(negatives)) for user, _, positives, negatives in made.file.rows()}

    return sets
