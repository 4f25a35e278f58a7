"""Commands of runs as a user types them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import PurePath

_NEEDS_SINGLE_QUOTES = re.compile(r'["$`\\!]')  # what a shell reads inside double quotes


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
    return " ".join([*_program(PurePath(program)), *map(_argument, arguments)])


def all_typed(commands: Iterable[str | None]) -> list[str]:
    """Each command once, without those of runs that report none."""
    return list(dict.fromkeys(typed(command) for command in commands if command))


def _program(path: PurePath) -> list[str]:
    if path.name == "__main__.py":
        return ["python", "-m", path.parent.name]
    return ["python", path.name] if path.suffix == ".py" or not path.is_absolute() else [path.name]


def _argument(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if not equals or shlex.quote(value) == value or shlex.quote(option) != option:
        return shlex.quote(argument)
    return f"{option}={shlex.quote(value)}" if _NEEDS_SINGLE_QUOTES.search(value) else f'{option}="{value}"'
