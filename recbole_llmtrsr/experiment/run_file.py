"""run.json in a result folder: the runs of a command, their options, and which of them have finished."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.config.renamed_options import current_options
from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.atomic_write import atomic_write

FILE_NAME = "run.json"
_LOCK = ".run.lock"

_DEFAULTS = Settings.from_options({}).flat()

Runs = Mapping[str, Mapping[str, Any]]


class RunFile:
    """The account of the runs of one command in its result folder, which is locked against other commands.

    Rank 0 keeps it and broadcasts what it reads.

    Args:
        folder: exists.
        runs: effective options by the run's name.
        files: digests of the data files, by name.
        versions: of what results depend on.

    Raises:
        UserError: another command runs there; the runs that were begun there are others, or had other options or data;
            or the file there is not one of ours.
    """

    def __init__(self, folder: Path, runs: Runs, files: Mapping[str, str], versions: Mapping[str, str]) -> None:
        self._path = folder / FILE_NAME
        self._lock = FileLock(folder / _LOCK)
        self._before: set[tuple[str, int]] = set()
        host = {"threads": str(torch.get_num_threads()), "processes": str(processes.count())}
        self._content: dict[str, Any] = processes.run_on_main(lambda: self._opened(runs, files, {**versions, **host}))

    @property
    def finished(self) -> list[str]:
        """Names of the finished runs."""
        return list(self._content["finished"])

    def finish(self, name: str) -> None:
        """Note that a run has finished and its results are written."""
        self._content["finished"].append(name)
        self._write(self._content)

    def complete(self) -> None:
        """Note that all runs have finished and their tables are written."""
        self._content["complete"] = True
        self._write(self._content)

    def close(self) -> None:
        """Release the lock, and remove the account if the runs left no files."""
        if not processes.is_main():
            return
        folder = self._path.parent
        if _others(folder) <= self._before:
            self._path.unlink(missing_ok=True)
            (folder / _LOCK).unlink(missing_ok=True)
        self._lock.release()

    def _opened(self, runs: Runs, files: Mapping[str, str], versions: Mapping[str, str]) -> dict[str, Any]:
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(
                f"another process uses {self._path.parent}: wait for it, stop it, or choose another result_dir"
            ) from error
        try:
            return self._begun(runs, files, versions)
        except BaseException:
            self._lock.release()
            raise

    def _begun(self, runs: Runs, files: Mapping[str, str], versions: Mapping[str, str]) -> dict[str, Any]:
        """The account of the runs that were begun here, or a new one."""
        folder = self._path.parent
        begun = read_run_file(folder)
        if begun is None:
            new: dict[str, Any] = {
                "runs": {name: dict(options) for name, options in runs.items()},
                "files": dict(files),
                "versions": dict(versions),
                "finished": [],
                "complete": False,
            }
            self._before = _others(folder)
            self._write(new)
            return new
        then = begun["files"]
        changed_files = [name for name in sorted({*then, *files}) if then.get(name) != files.get(name)]
        faults = differences(begun["runs"], runs)
        faults += [f"the file {name} is not what it was then" for name in changed_files]
        if faults:
            raise UserError(
                [
                    f"{folder} holds other runs, so these runs cannot resume there:",
                    *faults,
                    "use the options and data with which those runs started, or choose another result_dir",
                ]
            )
        old = begun["versions"]
        changed = [f"{name} {old[name]}, now {versions.get(name)}" for name in old if versions.get(name) != old[name]]
        if changed:
            getLogger().warning(
                f"the run in {folder} started with {'; '.join(changed)}: its results may differ in the last digits from"
                " those of an uninterrupted run"
            )
        return begun

    def _write(self, content: Mapping[str, Any]) -> None:
        with atomic_write(self._path) as file:
            file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _others(folder: Path) -> set[tuple[str, int]]:
    """Everything below a folder but its account: paths, of files with the time of the last change [ns]."""
    found: set[tuple[str, int]] = set()
    for place, folders, files in os.walk(folder):
        found |= {(os.path.join(place, name), 0) for name in folders}
        for path in {os.path.join(place, name) for name in files} - {str(folder / FILE_NAME), str(folder / _LOCK)}:
            with suppress(OSError):  # gone meanwhile
                found.add((path, os.lstat(path).st_mtime_ns))
    return found


def read_run_file(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's run.json; None where there is none.

    Raises:
        UserError: it cannot be read, or is not one of ours.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = {"runs", "files", "versions", "finished", "complete"} - set(content)
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        runs = {name: current_options(options) for name, options in content["runs"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as the record of a run: {error}") from error
    return {**content, "runs": runs}


def differences(begun: Runs, now: Runs) -> list[str]:
    """The differences between the runs that were begun and those of now, without options that change no result.

    An option that did not exist then counts as having had its present default.

    >>> differences({"Pop": {"seed": 1, "report": True}}, {"Pop": {"seed": 2}, "BPR": {}})
    ['BPR is not among the runs that were begun there', 'Pop began with seed: 1, not 2']
    """
    faults = [f"{name} is not among the runs that were begun there" for name in now if name not in begun]
    faults += [f"{name} was begun there too" for name in begun if name not in now]
    for name in [name for name in begun if name in now]:
        old, new = begun[name], now[name]
        was = {**{option: default for option, default in _DEFAULTS.items() if option in new}, **old}
        faults += [
            f"{name} began with {option}: {was.get(option)}, not {new.get(option)}"
            for option in sorted({*was, *new} - set(options_of("free")))
            if was.get(option) != new.get(option)
        ]
    return faults


def latest_unfinished(folders: Sequence[Path], runs: Runs) -> Path | None:
    """The latest folder where exactly these runs were begun and are not complete, and that no command uses."""
    found: list[Path] = []
    for folder in folders:
        with suppress(UserError):  # of a run.json that is not ours
            begun = read_run_file(folder)
            if begun and not begun["complete"] and not differences(begun["runs"], runs) and not _is_in_use(folder):
                found.append(folder)
    return max(found, key=lambda folder: (folder / FILE_NAME).stat().st_mtime_ns, default=None)


def _is_in_use(folder: Path) -> bool:
    try:
        with FileLock(folder / _LOCK, blocking=False):
            return False
    except (Timeout, OSError):  # also where it may not be written
        return True
