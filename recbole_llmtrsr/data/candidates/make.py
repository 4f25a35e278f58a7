"""Makes the candidate set of a split: draws it, loads a saved one, or reads the user's file."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path

import numpy as np
from recbole.data.dataset import Dataset

from recbole_llmtrsr.config.candidate_modes import CandidateMode, candidate_mode
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, read_candidate_file, write_candidate_file
from recbole_llmtrsr.data.candidates.candidate_set import CandidateSet
from recbole_llmtrsr.data.candidates.draws import draw
from recbole_llmtrsr.data.candidates.given import given
from recbole_llmtrsr.data.candidates.split_rows import SplitRows, has_target
from recbole_llmtrsr.data.catalogue_text import item_file
from recbole_llmtrsr.data.item_text import check_coverage, read_item_text
from recbole_llmtrsr.data.tokens import Ids, as_tokens, ranked
from recbole_llmtrsr.errors import UserError


def candidate_set(config: Config, dataset: Dataset, split: str, mode: CandidateMode | None = None) -> CandidateSet:
    """Make the candidate set of a split, and save it in ``candidate_dir``, also for other programs.

    Args:
        config: our Config.
        dataset: the built dataset of the split, with history ids on its rows.
        split: 'train', 'valid' or 'test'.
        mode: source of the candidates; None takes it from ``eval_args``.

    Raises:
        UserError: candidates cannot be drawn or read, or do not fit the split.
    """
    mode = mode or candidate_mode(config["eval_args"]["mode"][split])
    assert mode is not None
    rows = SplitRows.of(dataset)
    folder, stem = Path(config.settings.evaluation.candidate_dir), f"{config['dataset']}-{split}"
    if mode.is_drawn:
        categories = _categories(config, mode, rows) if mode.kind == "category" else None
        file, path = _drawn(config, rows, mode, split, folder / stem, categories)
        counts: Mapping[str, int] = {} if categories is None else _topped_up(file, rows, categories)
        if mode.kind == "matched":
            counts = _unmatched(file, rows)
    else:
        file, rows, counts = given(config, rows, mode)
        path = folder / f"{stem}-{mode.kind}-{file.digest[:12]}.npz"
        _save(path, file)
    counts = {"negatives_from_history": _from_history(file, rows), **counts}
    made = CandidateSet(file, rows.history_ids, rows.item_ids(file.tokens), mode.text, path, counts)
    found = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n)
    getLogger().info(f"{split}: candidates of {len(file):,} histories ({mode.text}) in {path}{found and ': '}{found}")
    return made


def _categories(config: Config, mode: CandidateMode, rows: SplitRows) -> Ids:
    """The number of each item's category (the complete value of ``candidate_category``), -1 if empty. [n_items]

    Raises:
        UserError: the .item file or the column is missing, or hardly any item has a category.
    """
    path, column = item_file(config), config.settings.evaluation.candidate_category
    # Reads all columns, so that an error can name this option and the columns of the file.
    text = read_item_text(
        path, config["ITEM_ID_FIELD"], separator=config["field_separator"], encoding=config["encoding"] or "utf-8"
    )
    if column not in text.columns:
        raise UserError(
            f"eval_args mode '{mode.text}' needs the column '{column}' of {path}, which has"
            f" {', '.join(text.columns)}: set candidate_category to one of these"
        )
    tokens = rows.item_tokens.tolist()
    values = [dict(text[token].fields).get(column, "") for token in tokens]
    without = [token for token, value in zip(tokens[1:], values[1:], strict=True) if not value]  # 0 is the padding
    check_coverage(text, tokens[1:], without, f"a category ({column})", "candidate_category")
    names, numbers = ranked(as_tokens(values))
    return np.where(names[numbers] == "", -1, numbers)


def _drawn(
    config: Config, rows: SplitRows, mode: CandidateMode, split: str, stem: Path, categories: Ids | None
) -> tuple[CandidateFile, Path]:
    """Load the set if it was drawn before; otherwise draw and save it."""
    settings = config.settings.evaluation
    seed = f"{config.data_seed}|{split}"
    choices = f"{seed}|{mode.text}|{settings.candidate_exclusion}"
    if categories is not None:
        choices += f"|{categories.tolist()}"
    if mode.kind == "matched":
        choices += f"|{rows.popularity.tolist()}"
    path = stem.with_name(f"{stem.name}-{mode.text}-{rows.fingerprint(choices)[:12]}.npz")
    if path.is_file():
        return _saved(path, rows, mode.n), path
    items = draw(rows, mode, seed, settings.candidate_exclusion == "history", categories)
    file = CandidateFile(
        users=rows.users,
        n_events=rows.n_events,
        tokens=rows.item_tokens,
        offsets=np.arange(len(rows) + 1) * (1 + mode.n),
        items=np.c_[rows.targets, items].ravel().astype(np.int32),
        is_positive=np.tile(np.arange(1 + mode.n) == 0, len(rows)),
    )
    _save(path, file)
    return file, path


def _save(path: Path, file: CandidateFile) -> None:
    try:
        write_candidate_file(path, file)
    except UserError as error:
        raise UserError(f"{error}: set candidate_dir to another folder") from error


def _saved(path: Path, rows: SplitRows, n: int) -> CandidateFile:
    try:
        file = read_candidate_file(path)
    except UserError as error:
        raise UserError([f"{fault}; delete it to draw the candidates again" for fault in error.faults]) from error
    if not (
        np.array_equal(file.users, rows.users)
        and np.array_equal(file.n_events, rows.n_events)
        and (file.lengths == 1 + n).all()
        and (file.n_positives == 1).all()
        and has_target(file, rows).all()
        and (rows.item_ids(file.tokens) > 0).all()
    ):
        raise UserError(f"candidate file {path} was changed since it was drawn: delete it to draw the candidates again")
    return file


def _topped_up(file: CandidateFile, rows: SplitRows, categories: Ids) -> dict[str, int]:
    """Count negatives from other categories, used if the target has no category or one with too few items."""
    wanted = categories[rows.targets][file.row_of_item]
    found = categories[rows.item_ids(file.tokens)[file.items]]
    is_other = ~file.is_positive & ((found != wanted) | (wanted < 0))
    return {
        "topped_up_histories": len(np.unique(file.row_of_item[is_other])),
        "topped_up_candidates": int(is_other.sum()),
    }


def _unmatched(file: CandidateFile, rows: SplitRows) -> dict[str, int]:
    """Count negatives with more, and with fewer, training events than their target; popular targets have few peers."""
    wanted = rows.popularity[rows.targets][file.row_of_item]
    found = rows.popularity[rows.item_ids(file.tokens)[file.items]]
    return {
        "more_popular_candidates": int((found > wanted).sum()),
        "less_popular_candidates": int((found < wanted).sum()),
    }


def _from_history(file: CandidateFile, rows: SplitRows) -> int:
    """Count negatives that are in the history."""
    ids = rows.item_ids(file.tokens)[file.items]
    n = 0
    for history_id, begin, end in zip(rows.history_ids, file.offsets, file.offsets[1:], strict=False):
        row = slice(begin, end)
        n += int(np.isin(ids[row][~file.is_positive[row]], rows.histories[history_id]).sum())
    return n
