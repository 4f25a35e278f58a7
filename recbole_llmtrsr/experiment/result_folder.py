"""The folder of a command's results: a new one, or that of the runs that it resumes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import ALSO
from recbole_llmtrsr.evaluation.per_history import ABLATION_DIR
from recbole_llmtrsr.evaluation.per_history import FILE_NAME as PER_HISTORY
from recbole_llmtrsr.evaluation.result import RUNS, make_result_dir
from recbole_llmtrsr.experiment.run_file import FILE_NAME, Runs, latest_unfinished, read_run_file
from recbole_llmtrsr.runtime.atomic_write import remove_drafts

# Files that a command would overwrite, beside the result.json of a run at any depth.
_RESULTS = (
    PER_HISTORY,
    "summaries.jsonl",
    "report.html",
    *(f"comparison.{form}" for form in ("json", "md", "csv", "tex")),
)


def result_folder(
    settings: Settings, models: Sequence[str], dataset: str, runs: Runs, made: MadeFolders | None = None
) -> Path:
    """The folder that the options name or find, made if there is none and then noted in ``made``.

    Raises:
        UserError: there is no such run to go on with, or the folder holds results of another command.
    """
    resume, named = settings.resume.resume, settings.evaluation.result_dir
    chosen = Path(named) if named is not None else None
    if resume == "auto" and chosen is None:
        chosen = latest_unfinished([path.parent for path in RUNS.glob(f"*/{FILE_NAME}")], runs)
    elif resume not in (None, "auto"):
        if chosen is not None and chosen.resolve() != Path(resume).resolve():
            raise UserError(f"resume: {resume} and result_dir: {chosen} name different folders: remove result_dir")
        chosen = Path(resume)
    begun = None if chosen is None else read_run_file(chosen)
    if begun is None and resume not in (None, "auto"):
        raise UserError(
            f"resume: {resume} holds no {FILE_NAME}: give the result folder of a command that was stopped, or"
            " resume=auto, which finds it"
        )
    if chosen is not None and (resume is None or begun is None):
        _refuse_used(chosen, begun)
        begun = None
    if begun is not None:
        n_finished, n_runs = len(begun["finished"]), len(begun["runs"])
        getLogger().warning(f"resuming in {chosen}: {n_finished} of {n_runs} runs have finished")
    elif resume == "auto":
        getLogger().warning("resume: auto found no stopped run with exactly these options: starting a new one")
    is_new = chosen is None or not chosen.exists()
    folder = make_result_dir(None if chosen is None else str(chosen), models, dataset)
    if is_new and made is not None:
        made.made(folder)
    return folder


def check_folders(configs: Iterable[Config]) -> None:
    """Refuse, before any work, folders that runs will write to and cannot.

    Raises:
        UserError: a file, or a link to nothing, stands where a folder is wanted, or the folder cannot be written.
    """
    faults = [fault for config in configs for fault in _faults_of_folders(config)]
    if faults:
        raise UserError(list(dict.fromkeys(faults)))


def _faults_of_folders(config: Config) -> Iterator[str]:
    settings = config.settings
    of_working_folder = "remove or rename it, or run in another working folder"
    for name, path in {"log": Path("log") / config.model, "log_tensorboard": Path("log_tensorboard")}.items():
        fault = _fault_of_folder(path)
        if fault is not None:
            yield f"{fault}, but RecBole writes to the folder {name}: {of_working_folder}"
    store = settings.summary.summary_store
    of_options = {
        **({"result_dir": RUNS} if settings.evaluation.result_dir is None else {}),  # another is tried when it is made
        "checkpoint_dir": Path(config["checkpoint_dir"]),
        "candidate_dir": Path(settings.evaluation.candidate_dir),
        "vector_dir": Path(settings.text.vector_dir).expanduser(),
        **({} if store is None else {"summary_store": Path(store).expanduser().parent}),
    }
    for name, path in of_options.items():
        # Finished candidates, vectors and summaries may lie where others alone may write.
        fault = _fault_of_folder(path, is_written=name in ("result_dir", "checkpoint_dir"))
        if fault is not None:
            yield f"{fault}, but {name} wants the folder {path}: rename or mend it, or set {name} to another place"


def _fault_of_folder(path: Path, is_written: bool = True) -> str | None:
    """What prevents a folder from being made or written to; None where nothing does."""
    there = next(one for one in (path, *path.parents) if os.path.lexists(one))
    if not there.is_dir():
        return f"'{there}' is a file" if there.exists() else f"'{there}' is a link to nothing"
    if (is_written or there != path) and not os.access(there, os.W_OK | os.X_OK):
        return f"the folder '{there}' cannot be written"
    return None


class MadeFolders:
    """The folders that a command makes, of which it removes those that stay empty."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def make(self, path: Path) -> None:
        """Make a folder, and missing ones above it."""
        self._made += [one for one in reversed((path, *path.parents)) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)

    def made(self, path: Path) -> None:
        """Note a folder that was just made."""
        self._made.append(path)

    def remove_empty(self) -> None:
        """Remove those that nothing was put into."""
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()


def remove_unfinished(folder: Path, runs: Iterable[Path]) -> None:
    """Remove unfinished files that a killed process left in a command's folder and those of its runs.

    The result folder of another command among them is left as it is.
    """
    for own in dict.fromkeys((folder, *runs)):
        for written in (own, own / ABLATION_DIR, own / "probes", *(own / ALSO).glob("*")):
            if written == folder or not (written / FILE_NAME).exists():
                remove_drafts(written)


def _refuse_used(folder: Path, begun: Mapping[str, Any] | None) -> None:
    """Refuse a folder with another command's results, as both would be taken for one comparison."""
    if begun is not None and not begun["complete"]:
        raise UserError(
            f"result_dir {folder} holds a run that was stopped: resume it with --resume={folder}, choose another"
            " folder, or remove it"
        )
    if not folder.is_dir():
        return
    written_over = (folder / name for name in _RESULTS if (folder / name).exists())
    found = next(chain(folder.rglob("result.json"), written_over), None)
    if found is not None:
        raise UserError(f"result_dir {folder} holds results already ({found}): choose another folder, or remove them")
