"""Finished runs, in memory or read from their result folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unicodedata import category

import pandas as pd

from recbole_llmtrsr.config.renamed_options import current_options
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.per_history import ABLATION_DIR, FILE_NAME, read_per_history

_ABLATION_DIRS = (ABLATION_DIR, "probes")  # the latter in runs of the previous version
ALSO = "also"  # in a run's folder: tests of the same model among other candidates


@dataclass(frozen=True, eq=False)
class Run:
    """One model with one seed.

    Attributes:
        label: name of its row in a comparison: the model's, or 'Model@variant'.
        seed: of its training.
        result: content of result.json.
        per_history: metrics of every ranked history; None where nothing was ranked.
        ablations: the same with changed prompts, by ablation.
        also: tests of the same model among other candidates, by their mode.
    """

    label: str
    seed: int
    result: dict[str, Any]
    per_history: pd.DataFrame | None
    ablations: dict[str, pd.DataFrame]
    also: Mapping[str, Run] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.label} (seed {self.seed})"


def load_runs(folders: Path | Iterable[Path]) -> list[Run]:
    """Finished runs at any depth of the folders, in the order of the folders, then of labels and seeds.

    A run that stopped after its summaries, whose result has no test, is not finished. Tests among other candidates,
    below a folder named ``also``, are ignored unless that folder is given.

    Raises:
        UserError: a folder has none, or a file cannot be read.
    """
    runs: list[Run] = []
    for folder in [folders] if isinstance(folders, Path) else folders:
        paths = [path for path in sorted(folder.rglob("result.json")) if ALSO not in path.relative_to(folder).parts]
        results = [(path, _read_result(path)) for path in paths]
        found = [_load_tested(path, result) for path, result in results if "test_result" in result]
        if not found:
            raise UserError(f"{folder} holds no finished run: name folders with a result.json and a {FILE_NAME}")
        runs += sorted(found, key=lambda run: (run.label, run.seed is not None, run.seed))
    return runs


def load_run(folder: Path, also: Mapping[str, str]) -> Run:
    """One run, as it was when it finished.

    Args:
        folder: of the run.
        also: folder names of its tests among other candidates, by mode; missing folders are left out.

    Raises:
        UserError: a file is missing, or cannot be read.
    """
    result = _read_result(folder / "result.json")
    if "test_result" not in result:  # it stopped after its summaries
        return Run(str(result["label"]), result["seed"], result, None, {})
    further = {mode: folder / ALSO / name for mode, name in also.items() if (folder / ALSO / name).is_dir()}
    run = _load_tested(folder / "result.json", result)
    return replace(run, also={mode: load_run(path, {}) for mode, path in further.items()})


def check_label(text: str, place: str) -> None:
    """Check that the name of a row, data set or metric is one line of text, since it goes into several formats.

    Raises:
        UserError: it is empty, or holds line breaks, control characters or surrogates. It names the ``place``.
    """
    if not text.strip() or any(category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise UserError(
            f"{place}: the name {text!r:.80} must be one line of text without control characters: give it another"
        )


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as the result of a run: {error}") from error
    return current_result(result) if isinstance(result, dict) else {}


def current_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a result.json under the names of today."""
    current = {"ablations" if name == "probes" else name: value for name, value in result.items()}
    if isinstance(options := result.get("options"), dict):
        current["options"] = current_options(options)
    return current


def _load_tested(path: Path, result: dict[str, Any]) -> Run:
    missing = [name for name in ("label", "seed", "dataset") if name not in result]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: it was written by an older version; make the run again")
    seed, names = result["seed"], [*(result["test_result"] or {})]
    if not (seed is None or type(seed) is int):
        raise UserError(f"{path}: seed must be a whole number or null, got {seed!r:.80}: correct it there")
    for text in (str(result["label"]), str(result["dataset"]), *names):
        check_label(text, str(path))
    table = path.with_name(FILE_NAME)
    ablations = {one.stem: one for name in _ABLATION_DIRS for one in path.with_name(name).glob("*.csv")}
    # In the order in which they were made, which results of older versions do not record.
    names = [name for name in (result.get("ablations") or {}).get("changed", ()) if name in ablations]
    names += sorted(ablations.keys() - {*names})
    return Run(
        str(result["label"]),
        result["seed"],
        result,
        read_per_history(table) if table.is_file() else None,
        {name: read_per_history(ablations[name]) for name in names},
    )
