"""``recbole-llmtrsr prepare``, or ``python -m recbole_llmtrsr.data.prepare``: converts a raw data set."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from recbole_llmtrsr.data.prepare import CONVERTERS
from recbole_llmtrsr.data.prepare.atomic import atomic_paths
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.data.prepare.starter import write_starter
from recbole_llmtrsr.errors import UserError, did_you_mean, exit_code
from recbole_llmtrsr.runtime.atomic_write import atomic_write
from recbole_llmtrsr.runtime.command_line import command_parser, program

_EXAMPLES = (
    "table --source=exports --interactions=events.csv --items=items.csv --user=customer --item=product --time=time"
    " --text=title,brand --out=dataset/shop",
    "mind --source=MINDsmall_train --out=dataset/mind",
)
MALFORMED = "malformed.tsv"  # after the name of the data set


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one raw data set and print its counts; returns 0, or 2 after printing a `UserError` to stderr.

    Args:
        arguments: command line without the program's name; None takes that of the process.
    """
    return exit_code(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    if arguments and not arguments[0].startswith("-") and arguments[0] not in CONVERTERS:
        # Before argparse, whose message for an unknown name does not suggest the nearest one.
        known, near = ", ".join(CONVERTERS), did_you_mean(arguments[0], CONVERTERS)
        raise UserError(f"unknown converter '{arguments[0]}': accepted are {known}{near}")
    options = _parser().parse_args(arguments)
    chosen = CONVERTERS[options.converter]
    given = {option.name: (option.read, getattr(options, option.name)) for option in chosen.options}
    values = {name: read(text) for name, (read, text) in given.items() if text is not None}
    try:
        report = chosen.convert(options.source, options.out, **values)
    except UserError as fault:
        # Ends the readers and with them their progress bars, which would share the error's line.
        traceback.clear_frames(fault.__traceback__)
        raise
    print(report.text())
    _list_malformed(atomic_paths(options.out, [MALFORMED])[0], report)
    if chosen.published:
        print(f"published: {chosen.published}")
    print(write_starter(options.out, options.converter))
    return 0


def _list_malformed(path: Path, report: Report) -> None:
    """Write all malformed lines if the report leaves some out; else remove the list of an earlier conversion."""
    if not report.is_cut:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        file.writelines(f"{line}\n".encode() for line in report.fault_lines())
    print(f"all malformed lines: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("prepare", "recbole_llmtrsr.data.prepare"),
        "Convert a raw data set to RecBole's atomic files, print its counts to compare with published ones, and write a"
        " property file for the first run. '<converter> --help' lists the options of a converter.",
        _EXAMPLES,
    )
    commands = parser.add_subparsers(dest="converter", required=True, metavar="converter")
    for name, entry in CONVERTERS.items():
        command = commands.add_parser(
            name,
            help=f"source: {entry.source}",
            allow_abbrev=False,
        )
        command.add_argument("--source", type=Path, required=True, help=f"folder with {entry.source}")
        command.add_argument(
            "--out",
            type=Path,
            required=True,
            help=f"folder for the atomic files, made if missing; its last part names the data set: dataset/{name} gets"
            f" {name}.inter and {name}.item, which replace older ones, and {name}.yaml, which does not",
        )
        for option in entry.options:
            command.add_argument(f"--{option.name}", required=option.is_required, help=option.help)
    return parser


if __name__ == "__main__":
    sys.exit(main())
