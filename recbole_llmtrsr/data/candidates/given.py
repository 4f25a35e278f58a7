"""Candidates from a file: the impressions of a data set, or a candidate set made by the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_llmtrsr.config.candidate_modes import CandidateMode
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, read_candidate_file
from recbole_llmtrsr.data.candidates.split_rows import SplitRows, has_target
from recbole_llmtrsr.data.tokens import Ids
from recbole_llmtrsr.errors import UserError

_N_NAMED = 5


def given(config: Config, rows: SplitRows, mode: CandidateMode) -> tuple[CandidateFile, SplitRows, Mapping[str, int]]:
    """Select the rows of a candidate file that belong to a split.

    For impressions, the ranked targets are the first click of each impression, and with ``catalogue: items`` negatives
    without a row in the .item file are dropped. A user's file must have a row for every target. Rows without negatives,
    which every model ranks correctly, are dropped from both. Dropped rows are counted; for impressions the count
    includes those of the split's users with an empty history or with events that filters removed.

    Args:
        config: our Config.
        rows: rows of the split.
        mode: 'impressions' or 'file'.

    Returns:
        candidates of the ranked rows, these rows, and counts.

    Raises:
        UserError: the file is missing or invalid, or does not fit the rows or the catalogue.
    """
    path = mode.path or Path(config["data_path"]) / f"{config['dataset']}.impressions.npz"
    if mode.path is None and not path.is_file():
        raise UserError(
            f"eval_args mode 'impressions' needs {path}, which 'python -m recbole_llmtrsr.data.prepare mind' writes:"
            " create it, or choose another mode, such as uni20"
        )
    file = read_candidate_file(path)
    places = rows.places(file)
    if mode.path is not None and (places < 0).any():
        missing = np.flatnonzero(places < 0)
        raise UserError(
            f"candidate file {path} has no row for {len(missing)} of {len(rows)} targets, such as"
            f" {_names(rows, missing)}: every target of the split needs one, as in the sets that runs with uni20 save"
        )
    named = rows.where(places >= 0)
    whole = file.select(places[places >= 0])
    is_known = named.item_ids(whole.tokens) > 0
    found = whole.select(np.arange(len(whole)), is_known[whole.items] | whole.is_positive)
    may_leave_out = mode.path is None and config.settings.evaluation.catalogue == "items"
    _check_items(path, found if may_leave_out else whole, named, config)
    missing = np.flatnonzero(~has_target(found, named))
    if len(missing):
        raise UserError(
            f"the target of {len(missing)} of {len(named)} rows is not a positive in {path}, such as"
            f" {_names(named, missing)}: the file was made from other events; use the same files, and filters that"
            " remove no events"
        )
    is_ranked = found.lengths > found.n_positives
    if len(rows) and not is_ranked.any():
        fault = f"none of the {len(rows)} targets has a row with a negative in {path}"
        if mode.path is None:
            fault += (
                ": only the first click of an impression has one; remove filters of events, and put more users into"
                " every part of the split (eval_args: {split: {US: [0.8, 0.1, 0.1]}})"
            )
        raise UserError(fault)
    ranked = found.select(np.flatnonzero(is_ranked))
    if mode.path is not None:
        return ranked, named.where(is_ranked), {"rows_without_negatives": int((~is_ranked).sum())}
    counts = {
        "impressions_left_out": int(pd.Series(file.users).isin(set(rows.users)).sum()) - len(ranked),
        "left_out_candidates": int((whole.lengths - found.lengths)[is_ranked].sum()),
    }
    return ranked, named.where(is_ranked), counts


def _check_items(path: Path, file: CandidateFile, rows: SplitRows, config: Config) -> None:
    unknown = file.tokens[rows.item_ids(file.tokens) == 0]
    if len(unknown):
        remedy = "set catalogue: items to include items of the .item file without interactions"
        if config.settings.evaluation.catalogue == "items":
            remedy = "add them to the .item file, or remove them from the candidates"
        raise UserError(
            f"{len(unknown)} candidates in {path} are not items of data set '{config['dataset']}', such as"
            f" {', '.join(unknown[:_N_NAMED].tolist())}: {remedy}"
        )


def _names(rows: SplitRows, where: Ids) -> str:
    return ", ".join(rows.name(row) for row in where[:_N_NAMED])
