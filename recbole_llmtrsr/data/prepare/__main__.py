"""Command line: ``python -m recbole_llmtrsr.data.prepare mind --source=<raw folder> --out=dataset/mind``."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from recbole_llmtrsr.data.prepare import CONVERTERS, converter
from recbole_llmtrsr.data.prepare.atomic import atomic_paths
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError, exit_code
from recbole_llmtrsr.runtime.atomic_write import atomic_write

MALFORMED = "malformed.tsv"  # after the name of the data set


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one raw data set and print its counts.

    Args:
        arguments: command line without the program's name; None takes the process's own.

    Returns:
        Exit code: 0, or 2 when the user can mend the fault, whose text is then on stderr.
    """
    return exit_code(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    if arguments and not arguments[0].startswith("-"):
        # Ahead of argparse, whose own message for an unknown name has no nearest one.
        converter(arguments[0])
    options = _parser().parse_args(arguments)
    chosen = converter(options.converter)
    given = {option.name: getattr(options, option.name) for option in chosen.options}
    values = {
        option.name: option.read(given[option.name]) for option in chosen.options if given[option.name] is not None
    }
    try:
        report = chosen.convert(options.source, options.out, **values)
    except UserError as fault:
        # Readers that wait for their next line end here, and so do their bars, which would share the error's line.
        traceback.clear_frames(fault.__traceback__)
        raise
    print(report.text())
    _list_malformed(atomic_paths(options.out, [MALFORMED])[0], report)
    if chosen.published:
        print(f"published: {chosen.published}")
    return 0


def _list_malformed(path: Path, report: Report) -> None:
    """Write the malformed lines that are more than the text shows; a list of an earlier conversion does not stay."""
    if not report.is_cut:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        file.writelines(f"{line}\n".encode() for line in report.fault_lines())
    print(f"all malformed lines: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_llmtrsr.data.prepare",
        description="Convert a raw data set to RecBole's atomic files and print the counts to compare.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="converter", required=True, metavar="{" + ",".join(CONVERTERS) + "}")
    for name, entry in CONVERTERS.items():
        command = commands.add_parser(name, help=f"source: {entry.source}", allow_abbrev=False)
        command.add_argument("--source", type=Path, required=True, help=f"folder with {entry.source}")
        command.add_argument(
            "--out",
            type=Path,
            required=True,
            help=f"folder for the atomic files, made if missing; its last part names the dataset: dataset/{name} gets"
            f" {name}.inter and {name}.item, replacing older ones; a name without a file"
            " properties/dataset/<name>.yaml needs --domain and --item_text_fields in every run",
        )
        for option in entry.options:
            command.add_argument(f"--{option.name}", required=option.is_required, help=option.help)
    return parser


if __name__ == "__main__":
    sys.exit(main())
