"""Histories of the users of the data set."""

from __future__ import annotations

import difflib

import numpy as np
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.errors import UserError

_N_NAMED = 3
FEW = 1_000  # names among which the nearest to a wrong one is found in milliseconds


class KnownUsers:
    """Finds users' histories: whole, in the data set before the split, or as its test split saw them."""

    def __init__(self, dataset: Dataset, test: Dataset) -> None:
        self._histories = dataset.histories
        self._is_presplit = dataset.config["benchmark_filename"] is not None
        self._tokens = [str(token) for token in dataset.field2id_token[dataset.uid_field]]
        self._numbers = {token: number for number, token in enumerate(self._tokens) if number}
        self._last = _latest_rows(dataset.inter_feat, dataset.uid_field)
        self._rows = _latest_rows(test.inter_feat, dataset.uid_field)

    @property
    def tested(self) -> list[str]:
        """Ids of the users that have a target in the test split, in the order of the data set."""
        return [token for token, number in self._numbers.items() if number in self._rows]

    def in_test(self, user: str) -> tuple[int, list[int]]:
        """The row of a user's latest target in the test split, and the items before it.

        Raises:
            UserError: no such user, or none that was tested.
        """
        number = self._number(user)
        if number not in self._rows:
            raise UserError(
                f"user '{user}' has no target in the test split: give the history as a list, such as"
                " Recommender.history(user, whole=True) makes of all that is known"
            )
        row, history_id = self._rows[number]
        return row, self._histories[history_id].tolist()

    def whole(self, user: str) -> list[int]:
        """All items that a user chose, the test's target among them, oldest first.

        Raises:
            UserError: no such user, one of a single event, or pre-split files.
        """
        number = self._number(user)
        if self._is_presplit:
            raise UserError("pre-split files (benchmark_filename) hold no whole histories: give the history as a list")
        if number not in self._last:
            raise UserError(
                f"user '{user}' has a single event, so that no row has a history: give the history as a list"
            )
        _, last = self._last[number]  # a history's id is the place of its target
        return self._histories.items[self._histories.begin[last] : last + 1].tolist()  # type: ignore[no-any-return]

    def _number(self, user: str) -> int:
        if user not in self._numbers:
            near = difflib.get_close_matches(user[:40], self._numbers, n=_N_NAMED) if len(self._tokens) < FEW else []
            hint = f" (the nearest are {', '.join(near)})" if near else ""
            shown = user[:60].encode(errors="replace").decode()
            raise UserError(
                f"no user '{shown}' among the {len(self._numbers):,} users of the data set{hint}: give the history of a"
                " new user as a list of items"
            )
        return self._numbers[user]


def _latest_rows(rows: Interaction, user_field: str) -> dict[int, tuple[int, int]]:
    """Row and history id of every user's latest target."""
    users, ids = rows[user_field].numpy(), rows[HISTORY_ID].numpy()
    order = np.lexsort((ids, users))
    last = order[np.r_[users[order][1:] != users[order][:-1], True]] if len(order) else order
    return {int(users[row]): (int(row), int(ids[row])) for row in last.tolist()}
