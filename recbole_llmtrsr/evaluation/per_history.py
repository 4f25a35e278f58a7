"""The per-history table in the folder of a run, with metrics and features of every ranked history."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import atomic_write

FILE_NAME = "per_history.csv"
ABLATION_DIR = "ablations"  # folder beside it, with a table for every ablation

_TEXT = ("user_id", "target")
_COUNTS = ("n_candidates", "n_positives")
_BEFORE = ("user_id", "n_events", "target", *_COUNTS, "rank")
# Types of the features, which distinguish unknown values from 0 and False.
_FEATURES = {"target_popularity": "Int64", "target_words": "Int64", "prompt_trimmed": "boolean"}
_TRUTH = {"True": True, "False": False, "": None}


def per_history(
    users: Sequence[str],
    n_events: npt.ArrayLike,
    targets: Sequence[str],
    values: Mapping[str, npt.ArrayLike],
    ranks: npt.ArrayLike,
    n_candidates: npt.ArrayLike,
    n_positives: npt.ArrayLike,
    features: Mapping[str, npt.ArrayLike | Sequence[int | bool | None] | None],
) -> pd.DataFrame:
    """Build the table of an evaluation, with one row per ranked history; all columns have the shape [n_rows].

    Args:
        users: user tokens.
        n_events: number of events before the target.
        targets: item token of the first positive.
        values: values of the metrics by name, such as "recall@3".
        ranks: expected rank of the target, averaged over the positives.
        n_candidates: number of candidates, including positives.
        n_positives: number of positives.
        features: target_popularity (training events) and target_words, each the maximum over several targets, and
            prompt_trimmed. Unknown values are None; a feature that is missing or None is unknown for all rows.

    Raises:
        ValueError: columns differ in length or have unknown names.
    """
    unknown = sorted(set(features) - set(_FEATURES))
    if unknown:
        raise ValueError(f"features {unknown} are unknown, use {list(_FEATURES)}")
    taken = sorted(set(values) & {*_BEFORE, *_FEATURES})
    if taken:
        raise ValueError(f"metrics {taken} have the names of other columns: rename them")
    columns: dict[str, pd.Series] = {
        "user_id": pd.Series(list(map(str, users)), dtype=object),
        "n_events": pd.Series(np.asarray(n_events, dtype=np.int64)),
        "target": pd.Series(list(map(str, targets)), dtype=object),
        "n_candidates": pd.Series(np.asarray(n_candidates, dtype=np.int64)),
        "n_positives": pd.Series(np.asarray(n_positives, dtype=np.int64)),
        "rank": pd.Series(np.asarray(ranks, dtype=np.float64)),
        **{name: pd.Series(np.asarray(of_rows, dtype=np.float64)) for name, of_rows in values.items()},
    }
    for name, dtype in _FEATURES.items():
        feature = features.get(name)
        columns[name] = pd.Series([None] * len(users) if feature is None else list(feature), dtype=dtype)  # type: ignore[arg-type]
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns must have one value per history, but have the lengths {lengths}")
    return pd.DataFrame(columns)


def metric_names(table: pd.DataFrame) -> list[str]:
    """Names of the metrics in a table, in the order of its columns."""
    return [str(name) for name in table.columns if name not in _BEFORE and name not in _FEATURES]


def write_per_history(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically; reading it restores all numbers exactly."""
    text = StringIO()
    # All text is quoted, because before Python 3.13 a carriage return in an unquoted name ends the line.
    table.to_csv(text, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def read_per_history(path: Path) -> pd.DataFrame:
    """Read a table; tokens such as "007", "1e5", "NA" and "" stay text.

    Raises:
        UserError: the file is not a per-history table.
    """
    try:
        text = pd.read_csv(path, dtype=object, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # the errors of pandas are ValueErrors
        raise UserError(f"{path} cannot be read as a per-history table: {error}") from error
    missing = [name for name in (*_BEFORE, *_FEATURES) if name not in text]
    if missing:
        raise UserError(
            f"{path} is not a per-history table, it lacks the columns {', '.join(missing)}: give the file of a run"
        )
    try:
        return per_history(
            list(text["user_id"]),
            [int(number) for number in text["n_events"]],
            list(text["target"]),
            {name: [float(number or "nan") for number in text[name]] for name in metric_names(text)},
            [float(number) for number in text["rank"]],
            [int(number) for number in text["n_candidates"]],
            [int(number) for number in text["n_positives"]],
            {
                "target_popularity": [int(number) if number else None for number in text["target_popularity"]],
                "target_words": [int(number) if number else None for number in text["target_words"]],
                "prompt_trimmed": [_TRUTH[word] for word in text["prompt_trimmed"]],
            },
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} has a value that is neither a number nor True or False ({error}): give the file as a run wrote it"
        ) from error
