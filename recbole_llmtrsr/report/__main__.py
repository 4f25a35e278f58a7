"""``recbole-llmtrsr report``, or ``python -m recbole_llmtrsr.report``: compares finished runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

from recbole_llmtrsr.config.options import EvaluationSettings
from recbole_llmtrsr.errors import UserError, command_line
from recbole_llmtrsr.evaluation.comparison.comparison import make_comparison
from recbole_llmtrsr.evaluation.comparison.runs import Run, check_label, load_runs
from recbole_llmtrsr.evaluation.comparison.screen import screen
from recbole_llmtrsr.evaluation.comparison.tables import write_comparison
from recbole_llmtrsr.report.page import write_report
from recbole_llmtrsr.runtime.command_line import command_parser, program
from recbole_llmtrsr.runtime.screen import width

_N_RESAMPLES = {option.name: option for option in fields(EvaluationSettings)}["n_resamples"]


def _run(options: argparse.Namespace) -> int:
    runs = [run for given in options.folders for run in _runs(given)]
    comparison = make_comparison(runs, options.n_resamples)
    try:
        write_comparison(options.out, comparison)
    except OSError as error:
        raise UserError(
            f"the comparison cannot be written to {options.out} ({error.strerror or error}): set --out to a writable"
            " folder"
        ) from error
    report = write_report(options.out, comparison)
    print(f"{screen(comparison, width())}\n\nreport: {report}")
    return 0


def _runs(given: str) -> list[Run]:
    """The runs of a folder, or of ``name=folder`` with that label."""
    name, equals, folder = given.partition("=")
    if not equals or not name or "/" in name or Path(given).exists():
        return load_runs(Path(given))
    check_label(name, given)
    runs = load_runs(Path(folder))
    labels = list(dict.fromkeys(run.label for run in runs))
    if len(labels) > 1:
        raise UserError(
            f"{folder} holds runs of {', '.join(labels)}, which cannot all be named {name}: name the folder of one"
        )
    return [replace(run, label=name) for run in runs]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("report", "recbole_llmtrsr.report"),
        "Compare finished runs with the same data set and candidates. Writes report.html and its tables as"
        " comparison.json, comparison.md, comparison.csv and comparison.tex.",
        [
            "results/runs/RUN results/runs/OTHER --out=results/report",
            "results/runs/RUN LLMTRSR@before=results/runs/OLDER --out=results/report",
        ],
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="folder",
        help="folder of runs, at any depth; a run is a result.json with per_history.csv beside it. name=folder adds the"
        " runs as a separate row, such as LLMTRSR@before beside other runs of LLMTRSR",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the files; created if missing")
    parser.add_argument(
        "--n_resamples",
        type=_enough,
        default=_N_RESAMPLES.default,
        help=f"{_N_RESAMPLES.metadata['doc']} ({_N_RESAMPLES.default})",
    )
    return parser


def _enough(text: str) -> int:
    least = _N_RESAMPLES.metadata["minimum"]
    number = int(text) if text.isdecimal() else -1
    if number < least:
        raise argparse.ArgumentTypeError(
            f"must be a whole number >= {least}, got '{text}': leave it out for {_N_RESAMPLES.default}"
        )
    return number


main = command_line(_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
