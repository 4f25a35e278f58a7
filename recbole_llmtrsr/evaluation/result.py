"""What a run leaves behind: result.json, and for several models comparison.json and comparison.md."""

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
from itertools import count
from pathlib import Path
from typing import Any

import recbole_llmtrsr
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.cost import peak_memory_gib
from recbole_llmtrsr.whole_file import whole_file

_PACKAGES = ("recbole", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "pandas", "scipy")


def make_result_dir(folder: str | None, models: Sequence[str], dataset: str) -> Path:
    """The folder for a run's results; made before any work is done, so that a run never ends without a place.

    Raises:
        UserError: it cannot be written.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path(folder) if folder else Path("results") / "runs" / f"{stamp}-{'+'.join(models)[:80]}-{dataset}"
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
    """Write as a whole or not at all; a number that JSON does not know (-inf: no validation data) becomes null."""
    _write(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def write_comparison(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write comparison.json and comparison.md.

    Args:
        folder: where to.
        results: the content of each model's result.json.
    """
    write_json(folder / "comparison.json", {"results": list(results)})
    _write(folder / "comparison.md", comparison_table(results))


def comparison_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Test metrics of several models side by side, in the order in which they ran, with what makes them comparable."""
    # A split without test rows has no test result.
    metrics = list(next((result["test_result"] for result in results if result["test_result"]), {}))
    header = ["model", *metrics, "epochs", "training (s)", "s per 1,000 users", "peak memory (GiB)", "candidates"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 2) + ["---"]]
    for result in results:
        hashes = result["candidates"].get("test", {})
        lines.append(
            [
                result["model"],
                *(f"{result['test_result'][metric]:.4f}" if result["test_result"] else "-" for metric in metrics),
                str(result["epochs_trained"]),
                f"{result['seconds']['training']:.0f}",
                _figure(result["cost"]["evaluation"]["seconds_per_1000_users"], ".1f"),
                _figure(peak_memory_gib(result["cost"]), ".2f"),
                hashes.get("hash", "all items")[:12],
            ]
        )
    first = results[0]
    caption = f"{first['dataset']}, test, {first['n_test']} targets, seed {first['options'].get('seed')}"
    return caption + "\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "recbole_llmtrsr": recbole_llmtrsr.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str | None:
    """Commit of the checkout that this package is run from, with '+changes' if it was edited; None outside of one."""
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
    """Make this folder, or the first free one of its numbered namesakes: runs that start together stay apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        numbered = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            numbered.mkdir()
            return numbered
    raise AssertionError("unreachable: count never ends")


def _figure(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())
