"""The command line: ``python -m recbole_llmtrsr`` and ``python run_recbole_llmtrsr.py``."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence

from recbole_llmtrsr.errors import UserError, exit_code

_SECONDS_TO_TELL = 10.0
_OTHER_ENDED = re.compile("Connection (closed|reset) by peer|Socket closed|Broken pipe")  # gloo's words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one model, or compare several.

    Returns:
        exit code: 0, or 2 for a fault in the user's input.
    """
    parser = argparse.ArgumentParser(
        prog="run_recbole_llmtrsr.py",
        description="Train and evaluate LLMTRSR or any model of RecBole; several are compared in one table.",
        allow_abbrev=False,  # else --data=x would be --dataset here and another option to Config
        epilog="Every option of RecBole and of this plugin is a flag --option=value; --SASRec.epochs=5 speaks to one"
        " model of a comparison. docs/options.md lists ours.",
    )
    parser.add_argument("--model", "-m", default=None, help="one model, or several as LLMTRSR,SASRec,GRU4Rec,Pop")
    parser.add_argument("--dataset", "-d", default=None, help="folder name under data_path; ml-100k needs no download")
    parser.add_argument("--config_files", default=None, help="property files, separated by spaces or commas")
    parser.add_argument(
        "--preset", default=None, help="whole settings by name: pretrained, paper, paper_mind, paper_amazon_m2"
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    known, others = parser.parse_known_args(given)
    return exit_code(lambda: _main_first(lambda: _run(known, others, given)))


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
        raise UserError("another process of this run ended: what it told is the reason") from error


def _run(known: argparse.Namespace, others: Sequence[str], given: Sequence[str]) -> int:
    faults = [
        f"argument '{flag}' is not understood: write options as --name=value, without spaces around ="
        for flag in others
        if not re.fullmatch(r"--[\w.@-]+=.*", flag, flags=re.DOTALL)
    ]
    if faults:
        raise UserError(faults)
    # Imported late: --help and a mistyped flag should not wait for torch and transformers.
    from recbole_llmtrsr.config.sources import Command, flags, option_from_sources, typed_command
    from recbole_llmtrsr.experiment.last_screen import last_screen
    from recbole_llmtrsr.quick_start import compared_runs
    from recbole_llmtrsr.runtime import processes

    files = re.split(r"[\s,]+", known.config_files.strip()) if known.config_files else []
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
