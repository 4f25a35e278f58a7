"""run.json in a result folder: which runs were asked for, with which options, and which of them have finished."""

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
    """Keeps account of the runs of one command in its result folder, which no other command may use meanwhile.

    Of several processes of one command the main one does; the others know what it found.

    Args:
        folder: exists.
        runs: effective options by the run's name.
        files: digests of the files of data, by name.
        versions: of what results depend on.

    Raises:
        UserError: another command runs there; the runs that were begun there are others, or had other options or data;
            or what is there was not begun by this program.
    """

    def __init__(self, folder: Path, runs: Runs, files: Mapping[str, str], versions: Mapping[str, str]) -> None:
        self._path = folder / FILE_NAME
        self._lock = FileLock(folder / _LOCK)
        self._before: set[tuple[str, int]] = set()
        host = {"threads": str(torch.get_num_threads()), "processes": str(processes.count())}
        self._content: dict[str, Any] = processes.run_on_main(lambda: self._opened(runs, files, {**versions, **host}))

    @property
    def finished(self) -> list[str]:
        """Names of the runs that have."""
        return list(self._content["finished"])

    def finish(self, name: str) -> None:
        """Note that a run has finished, its results being written."""
        self._content["finished"].append(name)
        self._write(self._content)

    def complete(self) -> None:
        """Note that nothing is left to do: all runs have finished, and their tables are written."""
        self._content["complete"] = True
        self._write(self._content)

    def close(self) -> None:
        """Let other processes in; where the runs left nothing, neither does this."""
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
                f"another process runs in {self._path.parent}: wait for it, stop it, or choose another result_dir"
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
        faults = [*differences(begun["runs"], runs), *_changed(begun["files"], files)]
        if faults:
            raise UserError(
                [
                    f"{folder} holds other runs than these, which cannot go on there:",
                    *faults,
                    "give the options and data that the runs began with, or another result_dir",
                ]
            )
        old = begun["versions"]
        changed = [f"{name} {old[name]}, now {versions.get(name)}" for name in old if versions.get(name) != old[name]]
        if changed:
            getLogger().warning(
                f"the run in {folder} began with {'; '.join(changed)}: its results may differ in the last digits from"
                " those of a run that was not stopped"
            )
        return begun

    def _write(self, content: Mapping[str, Any]) -> None:
        with atomic_write(self._path) as file:
            file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _others(folder: Path) -> set[tuple[str, int]]:
    """What lies below a folder beside its account: of a file also the time of its last change [ns]."""
    found: set[tuple[str, int]] = set()
    for place, folders, files in os.walk(folder):
        found |= {(os.path.join(place, name), 0) for name in folders}
        for path in {os.path.join(place, name) for name in files} - {str(folder / FILE_NAME), str(folder / _LOCK)}:
            with suppress(OSError):  # gone meanwhile
                found.add((path, os.lstat(path).st_mtime_ns))
    return found


def read_run_file(folder: Path) -> dict[str, Any] | None:
    """What a folder's run.json tells; None where there is none.

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
        raise UserError(f"{path} cannot be read as the account of a run: {error}") from error
    return {**content, "runs": runs}


def differences(begun: Runs, now: Runs) -> list[str]:
    """In what runs that were begun differ from these; options that change no result are left out.

    An option that there was not yet had its present default.

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


def _changed(begun: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    names = sorted({*begun, *now})
    return [f"the file {name} is not what it was then" for name in names if begun.get(name) != now.get(name)]


def latest_unfinished(folders: Sequence[Path], runs: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """The latest folder where just these runs were begun and are not complete; none in use is taken.

    Args:
        folders: that may have a run.json.
        runs: effective options by the run's name.
    """
    found: list[Path] = []
    for folder in folders:
        try:
            begun = read_run_file(folder)
        except UserError:  # somebody else's
            continue
        if begun is None or begun["complete"] or differences(begun["runs"], runs) or _is_in_use(folder):
            continue
        found.append(folder)
    return max(found, key=lambda folder: (folder / FILE_NAME).stat().st_mtime_ns, default=None)


def _is_in_use(folder: Path) -> bool:
    try:
        with FileLock(folder / _LOCK, blocking=False):
            return False
    except (Timeout, OSError):  # also where it may not be written
        return True
