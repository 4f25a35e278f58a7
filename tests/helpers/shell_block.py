"""Runs a block of commands of the docs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_block(text: str, folder: Path, warm: Path) -> None:
    """Run it in a folder, where ``recbole-llmtrsr`` is installed and ``python`` is warm; it must end with 0."""
    installed = folder / "bin" / "recbole-llmtrsr"
    installed.parent.mkdir(exist_ok=True)
    installed.write_text('#!/bin/sh\nexec python -m recbole_llmtrsr.commands.dispatch "$@"\n', encoding="utf-8")
    installed.chmod(0o755)
    path = f"{installed.parent}{os.pathsep}{warm}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-ec", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
