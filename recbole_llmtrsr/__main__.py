"""``recbole-llmtrsr run``, ``python -m recbole_llmtrsr`` or ``python run_recbole_llmtrsr.py``: trains and evaluates."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from recbole_llmtrsr.config.sources import preset_names
from recbole_llmtrsr.errors import UserError, exit_code
from recbole_llmtrsr.runtime.command_line import command_parser, program

_SECONDS_TO_TELL = 10.0
_OTHER_ENDED = re.compile("Connection (closed|reset) by peer|Socket closed|Broken pipe")  # gloo's words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one model, or compare several.

    Returns:
        exit code: 0, or 2 for a fault in the user's input.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    known, others = _parser(with_options=not {"-h", "--help"}.isdisjoint(given)).parse_known_args(given)
    if known.version:
        from recbole_llmtrsr.commands.dispatch import version_line

        print(version_line())
        return 0
    return exit_code(lambda: _main_first(lambda: _run(known, others, given)))


def _parser(with_options: bool) -> argparse.ArgumentParser:
    """The parser of what is needed before any Config.

    Args:
        with_options: add the most used options for the help, which they are there for: Config reads their values.
    """
    parser = command_parser(
        _program(),
        "Train and evaluate LLMTRSR or any model of RecBole. Several models are compared in one table.",
        ["--model=LLMTRSR --dataset=ml-100k", "--model=LLMTRSR,SASRec,Pop --report=True"],
    )
    parser.usage = "%(prog)s [--option=value ...]"
    add = parser.add_argument
    add("--model", "-m", help="one model, or several as LLMTRSR,SASRec,GRU4Rec,Pop (LLMTRSR)")
    add("--dataset", "-d", help="name of a folder below data_path (ml-100k, which comes with RecBole)")
    add("--config_files", help="property files of options, separated by commas or spaces")
    add("--preset", help=f"a named set of options: {', '.join(preset_names())}")
    add("--version", action="store_true", help="print the versions of the package, of its host and of Python")
    if with_options:
        from recbole_llmtrsr.commands.run_help import add_most_used

        add_most_used(parser)
    return parser


def _program() -> str:
    script = Path(sys.argv[0]).name
    return f"python {script}" if script == "run_recbole_llmtrsr.py" else program("run", "recbole_llmtrsr")


def _main_first(work: Callable[[], int]) -> int:
    """Let rank 0 report a fault that several processes have; another process reports its own a little later.

    The launcher ends all processes as soon as one ends, so that none repeats what rank 0 reported.
    """
    try:
        return work()
    except (UserError, OSError):
        if int(os.environ.get("RANK", "0")) > 0:
            time.sleep(_SECONDS_TO_TELL)
        raise
    except RuntimeError as error:
        if not _OTHER_ENDED.search(str(error)):
            raise
        raise UserError("another process of this run ended; the reason is in its message") from error


def _run(known: argparse.Namespace, others: Sequence[str], given: Sequence[str]) -> int:
    # Imported late, as --help and a misspelt option should not wait for it.
    from recbole_llmtrsr.commands.arguments import check_arguments, config_files

    check_arguments(others)
    if sys.stderr.isatty():
        print("loading torch, transformers and RecBole ...", file=sys.stderr)
    # Last, as torch and transformers take seconds.
    from recbole_llmtrsr.config.sources import Command, flags, option_from_sources, typed_command
    from recbole_llmtrsr.experiment.last_screen import last_screen
    from recbole_llmtrsr.quick_start import compared_runs
    from recbole_llmtrsr.runtime import processes

    files = config_files(known.config_files)
    model = known.model or option_from_sources("model", files, {}) or "LLMTRSR"
    models = model if isinstance(model, list) else [name.strip() for name in str(model).split(",") if name.strip()]
    dataset = known.dataset or option_from_sources("dataset", files, {}) or "ml-100k"
    try:
        preset = {} if known.preset is None else {"preset": known.preset}  # also of --preset <name>
        command = Command(typed_command(sys.argv[0], given), {**flags(given), **preset})
        runs, comparisons, folder = compared_runs(models, dataset, files, command=command)
    except processes.MainProcessError:
        return 2
    if not processes.is_main():
        processes.leave()
        return 0
    print("", last_screen(runs, comparisons, folder), sep="\n", flush=True)
    processes.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
