"""The result folder of a run, and what result.json records: versions and commit."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import recbole_llmtrsr
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import atomic_write

_PACKAGES = ("recbole", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "pandas", "scipy")

RUNS = Path("results") / "runs"  # holds the folders of runs without result_dir


def make_result_dir(folder: str | None, models: Sequence[str], dataset: str) -> Path:
    """Create the result folder of a run, before any work starts, so that an error appears first.

    Args:
        folder: the option ``result_dir``; None creates a new folder below `RUNS`.
        models: labels of the models.
        dataset: name of the data set.

    Raises:
        UserError: the folder cannot be written.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path(folder) if folder else RUNS / f"{stamp}-{'+'.join(models)[:80]}-{dataset}"
    try:
        if folder:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path = _new_folder(path)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"result folder {path} cannot be written: {error.strerror or error}; set result_dir to a writable folder"
        ) from error
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically; nan and infinity, which JSON lacks and runs without validation produce, become null."""
    write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def versions() -> dict[str, str]:
    """Versions of Python, this package and the packages that a result depends on."""
    ours = {"python": platform.python_version(), "recbole_llmtrsr": recbole_llmtrsr.__version__}
    return ours | {package: _version(package) for package in _PACKAGES}


@cache  # a run calls it three times, and each call would parse the metadata of the package
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def git_commit() -> str | None:
    """Commit of the checkout that contains this package, with '+changes' if files differ; None without a checkout."""
    folder = Path(recbole_llmtrsr.__file__).parent.parent
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _new_folder(path: Path) -> Path:
    """Create this folder, or the first free one with a number after its name, as runs may start at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        numbered = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            numbered.mkdir()
            return numbered
    raise AssertionError("unreachable: count never ends")


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
