"""What all commands share: their name as the user typed it, and a parser whose help shows examples."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from recbole_llmtrsr.errors import UserError

CONSOLE_COMMAND = "recbole-llmtrsr"
_EXAMPLES = "examples:\n"
_WIDTH = 78  # of an example, before " \\"


def program(command: str, module: str) -> str:
    """A command in the form in which the user started this process, which help and hints repeat.

    Args:
        command: name of a sub-command of ``recbole-llmtrsr``.
        module: the module or package that ``python -m`` runs as the same command.
    """
    is_console = Path(sys.argv[0]).stem == CONSOLE_COMMAND
    return f"{CONSOLE_COMMAND} {command}" if is_console else f"python -m {module}"


def command_parser(name: str, description: str, examples: Sequence[str] = ()) -> argparse.ArgumentParser:
    """A parser for the options of a command.

    Args:
        name: of the command, from `program`.
        description: first paragraph of the help.
        examples: what follows the name; long ones are continued on further lines, as a shell reads them.
    """
    return argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=_EXAMPLES + "\n".join(_lines(f"{name} {example}") for example in examples) if examples else None,
        formatter_class=ExamplesFormatter,
        allow_abbrev=False,
    )


def named_value(text: str) -> tuple[str, object]:
    """Name and value of ``--option name=value``, the value being YAML.

    >>> named_value("use_gpu=False"), named_value("summary_store=~")
    (('use_gpu', False), ('summary_store', None))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--option must be name=value, such as data_path=dataset, got '{text}'")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--option {name}: the value is no YAML ({error})") from error


def _lines(command: str) -> str:
    lines = textwrap.wrap(
        command,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(lines)


class ExamplesFormatter(argparse.HelpFormatter):
    """Wraps every text but the examples, whose lines can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        before, heading, examples = text.partition(_EXAMPLES)
        wrapped = [super(ExamplesFormatter, self)._fill_text(one, width, indent) for one in before.split("\n\n")]
        return "\n\n".join(one for one in wrapped if one) + ("\n\n" if before else "") + heading + examples
