"""Description of the machine that runs a benchmark."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """Return the name of the processor, on Linux with its model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {len(names) or 'unknown'} cores"


def versions() -> str:
    """Return the versions of Python and the libraries that affect times."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in ("torch", "transformers"))])
