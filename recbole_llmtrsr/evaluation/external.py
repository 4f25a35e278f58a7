"""Evaluation of the scores that another program gave to the candidates of a file, as those of a run."""

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
    """Compute the per-history table and the metrics, rounded as those of a run.

    Args:
        candidates: the lists of candidates.
        scores: score of each candidate, as `given_scores.align_scores` returns them.
        metrics: names from `EXPECTED`, in any case.
        topk: cut-offs of the rankings.

    Returns:
        The table, with one row per history, and the metrics by name, such as "recall@3".

    Raises:
        UserError: a metric is unknown, a cut-off is below 1, or the file holds no row.
    """
    names = [name.lower() for name in metrics]
    faults = [f"metric '{name}' must be one of {', '.join(EXPECTED)}" for name in names if name not in EXPECTED]
    faults += [f"topk must hold whole numbers >= 1, got {k}" for k in topk if k < 1]
    if not len(candidates.users):
        faults.append("the candidate file has no rows to rank: export it from a run with test targets")
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
    """Write per_history.csv and result.json for the scores of another program.

    Args:
        folder: the result folder.
        label: name of the program in comparisons.
        dataset: name of the data set.
        seed: seed of the program's run.
        candidates: the lists of candidates.
        table: the per-history table from `evaluate_scores`.
        found: the metrics from `evaluate_scores`.

    Returns:
        The content of result.json, in which unknown values are null.

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
