"""``recbole-llmtrsr candidates``, or ``python -m recbole_llmtrsr.data.candidates``: candidate files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recbole_llmtrsr.data.candidates.candidate_file import read_candidate_file, write_candidate_file
from recbole_llmtrsr.errors import UserError, command_line
from recbole_llmtrsr.runtime.command_line import command_parser, program

_FORMS = {"export": (".npz", ".jsonl"), "import": (".jsonl", ".npz")}


def _run(options: argparse.Namespace) -> int:
    if options.command in _FORMS:
        for name, form in zip(("source", "out"), _FORMS[options.command], strict=True):
            if getattr(options, name).suffix != form:
                raise UserError(f"{options.command}: --{name}={getattr(options, name)} must end in {form}")
    file = read_candidate_file(options.source)
    if options.command in _FORMS:
        write_candidate_file(options.out, file)
    lengths = f" ({file.lengths.min()} to {file.lengths.max()} a row)" if len(file) else ""
    print(
        f"{options.source if options.command == 'show' else options.out}: {len(file):,} rows of"
        f" {len(set(file.users.tolist())):,} users; {len(file.items):,} candidates{lengths},"
        f" {file.is_positive.sum():,} of them positive; {len(file.tokens):,} different items\nhash {file.digest}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("candidates", "recbole_llmtrsr.data.candidates"),
        "Show a candidate file, or convert one to and from JSON lines.",
        [
            "show --source=saved/candidates/NAME.npz",
            "export --source=saved/candidates/NAME.npz --out=candidates.jsonl",
        ],
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in {
        "show": "check a file and print its counts and hash",
        "export": "convert .npz to .jsonl, with user, n_events, positives and negatives of one row per line",
        "import": "check .jsonl and convert it to .npz, for --eval_args={mode: 'file:<path>'}",
    }.items():
        made = commands.add_parser(command, help=text, allow_abbrev=False)
        made.add_argument("--source", type=Path, required=True, help="candidate file to read")
        if command != "show":
            made.add_argument(
                "--out", type=Path, required=True, help="candidate file to write; an existing file is replaced"
            )
    return parser


main = command_line(_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
