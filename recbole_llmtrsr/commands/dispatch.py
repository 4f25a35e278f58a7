"""``recbole-llmtrsr <command> [options]``: a command is the ``main`` of one module, imported when it is chosen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import cast

from recbole_llmtrsr import __version__
from recbole_llmtrsr.errors import UserError, did_you_mean, exit_code


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes:
        module: whose ``main`` takes the arguments behind the sub-command's name and returns the exit code.
        help: one line of the list of commands.
    """

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "run": Command("recbole_llmtrsr.__main__", "train and evaluate a model, or compare several"),
    "prepare": Command("recbole_llmtrsr.data.prepare.__main__", "convert a raw data set to RecBole's atomic files"),
    "summaries": Command("recbole_llmtrsr.summarizer.__main__", "show, count, check, export or import summaries"),
    "candidates": Command("recbole_llmtrsr.data.candidates.__main__", "show, export or import candidate sets"),
    "evaluate": Command("recbole_llmtrsr.evaluation.__main__", "evaluate the scores of another program"),
    "report": Command("recbole_llmtrsr.report.__main__", "compare finished runs in one report"),
    "serve": Command("recbole_llmtrsr.serve.__main__", "serve a finished run over HTTP"),
    "export": Command("recbole_llmtrsr.commands.export", "write recommendations for many users, or the trained model"),
    "tune": Command("recbole_llmtrsr.commands.tune", "search for the best hyper-parameters"),
}
_VERSIONS_OF = ("recbole", "torch", "transformers")
_HELP = """\
usage: recbole-llmtrsr <command> [options]

LLM-TRSR for RecBole: compare language models with sequential recommenders.

commands:
{commands}

options:
  -h, --help  print this help, or behind a command the options of that command
  --version   print the versions of the package, of its host and of Python

examples:
  recbole-llmtrsr run --model=LLMTRSR --dataset=ml-100k
  recbole-llmtrsr run --model=LLMTRSR,SASRec,Pop --dataset=ml-100k
  recbole-llmtrsr export --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sub-command that the first argument names.

    Args:
        arguments: command line without the program's name; None takes that of the process.

    Returns:
        the exit code of the sub-command; 2 for a name that is none, 0 for the help and the version.
    """
    name, *others = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in COMMANDS:
        return cast(Callable[[Sequence[str]], int], import_module(COMMANDS[name].module).main)(others)
    return exit_code(lambda: _without_command(name))


def _without_command(argument: str) -> int:
    if argument in ("-h", "--help"):
        print(_help())
    elif argument == "--version":
        print(version_line())
    elif argument.startswith("-"):
        raise UserError(
            f"'{argument}' stands before a command: write the command first, such as recbole-llmtrsr run {argument}"
        )
    else:
        hint = did_you_mean(argument, COMMANDS)
        raise UserError(f"unknown command '{argument}': accepted are {', '.join(COMMANDS)}{hint}")
    return 0


def version_line() -> str:
    """The versions of this package, of those that decide its results, and of Python."""
    others = [f"{name} {_version(name)}" for name in _VERSIONS_OF]
    return ", ".join([f"recbole_llmtrsr {__version__}", *others, f"Python {python_version()}"])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _help() -> str:
    return _HELP.format(commands="\n".join(f"  {name:<12}{command.help}" for name, command in COMMANDS.items()))


if __name__ == "__main__":
    sys.exit(main())
