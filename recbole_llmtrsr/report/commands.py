"""Commands of runs as a user types them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from recbole_llmtrsr.config.sources import typed_command


def typed(command: str) -> str:
    """A command without the folder of its program, and with quotes around values alone.

    >>> typed("python /home/me/run_recbole_llmtrsr.py --model=Pop '--eval_args={mode: full}'")
    'python run_recbole_llmtrsr.py --model=Pop --eval_args="{mode: full}"'
    >>> typed("python /venv/lib/recbole_llmtrsr/__main__.py --model=Pop")
    'python -m recbole_llmtrsr --model=Pop'
    >>> typed("run_recbole_llmtrsr(model='Pop')")
    "run_recbole_llmtrsr(model='Pop')"
    """
    if not command.startswith("python "):
        return command
    try:
        _, program, *arguments = shlex.split(command)
    except ValueError:  # no closing quote, or nothing to run
        return command
    return typed_command(program, arguments)


def all_typed(commands: Iterable[str | None]) -> list[str]:
    """Each command once, without those of runs that report none."""
    return list(dict.fromkeys(typed(command) for command in commands if command))
