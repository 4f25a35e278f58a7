"""What a benchmark ran on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """The processor, as Linux names it where it does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {len(names) or 'unknown'} cores"


def versions() -> str:
    """Of Python and the libraries that a time depends on."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in ("torch", "transformers"))])
