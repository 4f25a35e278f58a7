"""Other programs' scores on a candidate file, evaluated like those of our runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.metrics import EXPECTED, Floats, expected_ranks, mean_values, row_values
from recbole_llmtrsr.evaluation.per_history import FILE_NAME, per_history, write_per_history
from recbole_llmtrsr.evaluation.result import git_commit, versions, write_json
from recbole_llmtrsr.evaluation.tie_groups import tie_groups

_ROWS_AT_ONCE = 1_000
_DECIMALS = 4  # of RecBole's metric_decimal_place


def evaluate_scores(
    candidates: CandidateFile, scores: Floats, metrics: Sequence[str], topk: Sequence[int]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The per-history table and the metrics, rounded as those of a run.

    Args:
        candidates: the lists that are ranked.
        scores: from `given_scores.align_scores`.
        metrics: names from `EXPECTED`, in any case.
        topk: cut-offs.

    Raises:
        UserError: an unknown metric, a k below 1, or no row.
    """
    names = [name.lower() for name in metrics]
    faults = [f"metric '{name}' is none of {', '.join(EXPECTED)}" for name in names if name not in EXPECTED]
    faults += [f"topk must hold whole numbers >= 1, got {k}" for k in topk if k < 1]
    if not len(candidates.users):
        faults.append("the candidate file has no row: there is nothing to rank")
    if faults:
        raise UserError(faults)
    lengths = np.diff(candidates.offsets)
    parts = [
        _values_of_rows(candidates, scores, rows, names, topk)
        for rows in np.split(np.arange(len(lengths)), np.arange(_ROWS_AT_ONCE, len(lengths), _ROWS_AT_ONCE))
    ]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    positives = np.flatnonzero(candidates.is_positive)
    row_of_positive = np.repeat(np.arange(len(lengths)), lengths)[positives]
    _, first, n_positives = np.unique(row_of_positive, return_index=True, return_counts=True)
    targets = candidates.tokens[candidates.items[positives[first]]]
    ranks = values.pop("rank")
    table = per_history(
        candidates.users.tolist(), candidates.n_events, targets.tolist(), values, ranks, lengths, n_positives, {}
    )
    return table, {name: round(mean, _DECIMALS) for name, mean in mean_values(values, n_positives).items()}


def write_external(
    folder: Path,
    label: str,
    dataset: str,
    seed: int,
    candidates: CandidateFile,
    table: pd.DataFrame,
    found: Mapping[str, float],
) -> dict[str, Any]:
    """Write per_history.csv and result.json of another program's run, whose name in a comparison is ``label``.

    ``table`` and ``found``, the metrics, are those of `evaluate_scores`. Returns the content of result.json, in which
    unknown facts are null.

    Raises:
        UserError: the folder cannot be written.
    """
    result = {
        "label": label,
        "model": label,
        "seed": seed,
        "dataset": dataset,
        "test_result": dict(found),
        "epochs_trained": None,
        "train_loss": {},
        "n_test": len(table),
        "candidates": {"test": {"hash": candidates.digest, "n_histories": len(table)}},
        "seconds": {},
        "cost": None,
        "versions": versions(),
        "git_commit": git_commit(),
        "options": {},
    }
    try:
        write_per_history(folder / FILE_NAME, table)
        write_json(folder / "result.json", result)
    except OSError as error:
        raise UserError(
            f"result folder {folder} cannot be written: {error.strerror or error}; set --out to a writable folder"
        ) from error
    return result


def _values_of_rows(
    candidates: CandidateFile, scores: Floats, rows: npt.NDArray[np.int64], metrics: Sequence[str], topk: Sequence[int]
) -> dict[str, Floats]:
    begin, end = candidates.offsets[rows[0]], candidates.offsets[rows[-1] + 1]
    lengths = np.diff(candidates.offsets)[rows]
    places = np.arange(lengths.max())
    matrix = np.full((len(rows), len(places)), -np.inf)
    is_candidate = places < lengths[:, None]
    matrix[is_candidate] = scores[begin:end]
    is_positive = np.zeros_like(is_candidate)
    is_positive[is_candidate] = candidates.is_positive[begin:end]
    row, place = np.nonzero(is_positive)
    groups = tie_groups(torch.from_numpy(matrix), torch.from_numpy(row), torch.from_numpy(place))
    return {"rank": expected_ranks(groups), **row_values(groups, metrics, topk)}
