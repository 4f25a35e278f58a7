"""The rows of a split, identified as in candidate files: by user token and number of events before the target."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from recbole.data.dataset import Dataset

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile
from recbole_llmtrsr.data.histories import HISTORY_ID, Histories
from recbole_llmtrsr.data.tokens import Ids, Tokens, as_tokens, ranked
from recbole_llmtrsr.errors import UserError


@dataclass(frozen=True)
class SplitRows:
    """Rows sorted by user token and number of events, like those of a candidate file.

    Attributes:
        history_ids: history ids. [n_rows]
        targets: item ids of the targets. [n_rows]
        users: user tokens. [n_rows]
        n_events: lengths of the histories. [n_rows]
        item_tokens: tokens of the whole catalogue, by item id; 0 is the padding.
        histories: histories of the dataset.
        popularity: number of training events of every item, by item id.
    """

    history_ids: Ids
    targets: Ids
    users: Tokens
    n_events: Ids
    item_tokens: Tokens
    histories: Histories
    popularity: Ids

    @classmethod
    def of(cls, dataset: Dataset) -> SplitRows:
        """The rows of a built dataset with history ids; raises a UserError if two share user and number of events."""
        ids = dataset.inter_feat[HISTORY_ID].numpy()
        users = as_tokens(dataset.field2id_token[dataset.uid_field])
        users = users[dataset.inter_feat[dataset.uid_field].numpy()]
        n_events = dataset.histories.end[ids] - dataset.histories.begin[ids]
        order = np.lexsort((n_events, ranked(users)[1]))
        users, n_events = users[order], n_events[order]
        is_again = (users[1:] == users[:-1]) & (n_events[1:] == n_events[:-1])
        if is_again.any():
            first = int(is_again.argmax())
            raise UserError(
                f"{is_again.sum()} rows have the same user and number of events as another, such as those of user"
                f" '{users[first]}' after {n_events[first]} events: with benchmark_filename, give complete histories in"
                " the item list column, or one row per user"
            )
        targets = dataset.inter_feat[dataset.iid_field].numpy()[order]
        tokens = as_tokens(dataset.field2id_token[dataset.iid_field])
        return cls(ids[order], targets, users, n_events, tokens, dataset.histories, dataset.popularity)

    def __len__(self) -> int:
        return len(self.history_ids)

    def name(self, row: int) -> str:
        """The name of a row in messages."""
        return f"user '{self.users[row]}' after {self.n_events[row]} events"

    def where(self, keep: npt.NDArray[np.bool_]) -> SplitRows:
        """Select rows by a mask, in the same order."""
        names = ("history_ids", "targets", "users", "n_events")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def places(self, file: CandidateFile) -> Ids:
        """The candidate file's row for each row; -1 where it has none. [n_rows]"""
        at = {name: i for i, name in enumerate(zip(file.users.tolist(), file.n_events.tolist(), strict=True))}
        names = zip(self.users.tolist(), self.n_events.tolist(), strict=True)
        return np.array([at.get(name, -1) for name in names], dtype=np.int64)

    def item_ids(self, tokens: Tokens) -> Ids:
        """Item ids of tokens; 0 for tokens that are not items. [n_tokens]"""
        ids = {token: i for i, token in enumerate(self.item_tokens.tolist())}
        return np.array([ids.get(token, 0) for token in tokens.tolist()], dtype=np.int64)

    def fingerprint(self, choices: str) -> str:
        """SHA-256 of everything that a draw depends on: options, rows, histories and catalogue."""
        parts = [choices, "\t".join(self.item_tokens), "\t".join(self.users)]
        past = self.histories
        hasher = hashlib.sha256("\n".join(parts).encode())
        for numbers in (self.history_ids, self.targets, past.items, past.begin, past.end, past.events):
            hasher.update(np.ascontiguousarray(numbers, dtype=np.int64).tobytes())
        return hasher.hexdigest()


def has_target(file: CandidateFile, rows: SplitRows) -> npt.NDArray[np.bool_]:
    """Mask of the rows of a file in which the target of the same row of the split is a positive. [n_rows]"""
    of_row = file.row_of_item
    is_target = file.is_positive & (rows.item_ids(file.tokens)[file.items] == rows.targets[of_row])
    return np.bincount(of_row[is_target], minlength=len(rows)) > 0
