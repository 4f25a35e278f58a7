"""Where the results of a command go: into a new folder, or that of the runs it goes on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.result import RUNS, make_result_dir
from recbole_llmtrsr.resume.run_file import FILE_NAME, Runs, latest_unfinished, read_run_file
from recbole_llmtrsr.settings import Settings


def result_folder(settings: Settings, models: Sequence[str], dataset: str, runs: Runs) -> Path:
    """The folder that the options name or find, made if there is none.

    Args:
        settings: of the command.
        models: their names.
        dataset: its name.
        runs: effective options by the run's name.

    Raises:
        UserError: there is no such run to go on with, or the folder holds results of another command.
    """
    resume, named = settings.resume.resume, settings.evaluation.result_dir
    chosen = Path(named) if named is not None else None
    if resume is None:
        begun = None
        if chosen is not None:
            _refuse_used(chosen, read_run_file(chosen))
    elif resume == "auto":
        if chosen is None:
            chosen = latest_unfinished([path.parent for path in RUNS.glob(f"*/{FILE_NAME}")], runs)
        begun = read_run_file(chosen) if chosen is not None else None
        if chosen is not None and begun is None:
            _refuse_used(chosen, None)
    else:
        if chosen is not None and chosen.resolve() != Path(resume).resolve():
            raise UserError(f"resume: {resume} and result_dir: {chosen} are two folders: leave result_dir out")
        chosen = Path(resume)
        begun = read_run_file(chosen)
        if begun is None:
            raise UserError(
                f"resume: {resume} holds no {FILE_NAME}: give the result folder of a command that was stopped, or"
                " resume=auto, which finds it"
            )
    if begun is not None:
        n_finished, n_runs = len(begun["finished"]), len(begun["runs"])
        getLogger().warning(f"going on in {chosen}: {n_finished} of {n_runs} runs have finished")
    elif resume == "auto":
        getLogger().warning("resume: auto finds no stopped run of just these options: a new one begins")
    return make_result_dir(None if chosen is None else str(chosen), models, dataset)


def remove_empty(folder: Path) -> None:
    """Remove a folder and those below it as far as nothing is in them."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        if path.is_dir():
            with suppress(OSError):
                path.rmdir()


def _refuse_used(folder: Path, begun: Mapping[str, Any] | None) -> None:
    """Results of two commands in one folder would be taken for one comparison."""
    if begun is not None and not begun["complete"]:
        raise UserError(
            f"result_dir {folder} holds a run that was stopped: go on with --resume={folder}, choose another folder, or"
            " remove it"
        )
    found = next(folder.rglob("result.json"), None) if folder.is_dir() else None
    if found is not None:
        raise UserError(f"result_dir {folder} holds results already ({found}): choose another folder, or remove them")
