"""Batches of labelled rows in the words of the files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recbole_llmtrsr.data.histories import HISTORY_ID


def labelled(batches: Iterable[Any], dataset: Any) -> dict[tuple[str, int], tuple[list[str], list[str]]]:
    """Positives and negatives, by user and number of events before the target."""
    tokens, found = dataset.field2id_token, {}
    for batch in batches:
        columns = (batch[name].tolist() for name in ("user_id", HISTORY_ID, "item_id", "label"))
        for user, history_id, item, label in zip(*columns, strict=True):
            name = tokens["user_id"][user], len(dataset.histories[history_id])
            found.setdefault(name, ([], []))[int(label == 0)].append(tokens["item_id"][item])
    return found
