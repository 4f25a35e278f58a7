"""``recbole-llmtrsr tune``: RecBole's HyperTuning, with the options of this package and of every model."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_llmtrsr.commands.arguments import check_arguments, check_names, check_writable, config_files, count
from recbole_llmtrsr.config.sources import flags, literal, option_from_sources
from recbole_llmtrsr.errors import UserError, exit_code
from recbole_llmtrsr.runtime.command_line import command_parser, program

_ALGORITHMS = ("exhaustive", "random", "bayes")
_EARLY_STOP = 10  # trials, as in RecBole
_N_BOUNDS = {"uniform": 2, "loguniform": 2, "quniform": 3}
_FORM = (
    "each line must be 'name choice [value, ...]', 'name uniform low,high', 'name loguniform low,high' (natural"
    " logarithms) or 'name quniform low,high,step'"
)
Space = dict[str, dict[str, Any]]  # kind -> option -> choices or bounds, as HyperTuning takes it


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, write the result of every trial to a file, and print the best one; returns the exit code."""
    known, others = _parser().parse_known_args(arguments)
    return exit_code(lambda: _run(known, others))


def _run(options: argparse.Namespace, others: Sequence[str]) -> int:
    check_arguments(others)
    space = read_space(options.params_file)
    searched = {name for names in space.values() for name in names}
    check_names(searched)
    if options.algo == "exhaustive" and set(space) - {"choice"}:
        raise UserError(
            f"--algo=exhaustive tries every value, and {options.params_file} holds ranges ({', '.join(space)}): write"
            " choice [...] for them, or set --algo=random or --algo=bayes"
        )
    if find_spec("hyperopt") is None:
        raise UserError("tuning needs the package hyperopt: pip install '.[tune]'")
    check_writable(options.out)
    files = config_files(options.config_files)
    fixed = _fixed_options(options, others)
    if doubled := sorted(fixed.keys() & searched):
        raise UserError(
            f"{', '.join(doubled)}: set on the command line, and searched in {options.params_file}: remove one of them"
        )
    if (named := fixed.get("result_dir") or option_from_sources("result_dir", files, {})) is not None:
        raise UserError(f"result_dir: {named} is one folder, and every trial needs its own: leave result_dir out")
    search = _searched(space, fixed, files, options)
    best = search.params2result[search.params2str(search.best_params)]
    chosen = [f"--{name}={value}" for name, value in _whole(space, search.best_params).items()]
    of_all = {name: getattr(options, name) for name in ("model", "dataset", "config_files")}
    given = [f"--{name}={value}" for name, value in of_all.items() if value is not None]
    command = shlex.join([*given, *others, *chosen])
    print(f"best of {len(search.params2result):,} trials: {' '.join(chosen)}")
    print(f"validation: {_metrics(best['best_valid_result'])}\ntest: {_metrics(best['test_result'])}")
    print(f"all trials: {options.out}\nnext: {program('run', 'recbole_llmtrsr')} {command}")
    return 0


def _searched(space: Space, fixed: Mapping[str, Any], files: Sequence[str], options: argparse.Namespace) -> Any:
    """RecBole's search, finished, with its results in a file."""
    # Imported late: --help and a mistyped flag should not wait for torch and transformers.
    from recbole_llmtrsr.quick_start import objective_function
    from recbole_llmtrsr.runtime import recbole_patches
    from recbole_llmtrsr.runtime.atomic_write import draft_of

    recbole_patches.apply()
    from recbole.trainer import HyperTuning

    def objective(point: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
        found = objective_function({**fixed, **_whole(space, point)}, files)
        if found["best_valid_score"] is None:
            raise UserError(
                "a trial ended without a validation score: leave out summarize_only, dry_run and scorer (a model behind"
                " a server is not validated, unless blend: ~ is tuned with a retriever)"
            )
        return found

    search = HyperTuning(
        objective,
        params_dict=space,
        fixed_config_file_list=files,
        algo=options.algo,
        max_evals=options.max_evals,
        early_stop=options.early_stop or (sys.maxsize if options.algo == "exhaustive" else _EARLY_STOP),
    )
    try:
        search.run()
    finally:
        if search.params2result:  # the trials before one that failed, too
            with draft_of(options.out) as draft:
                search.export_result(output_file=draft)
    return search


def _whole(space: Space, point: Mapping[str, Any]) -> dict[str, Any]:
    """A point, with whole numbers where quniform has whole bounds and a whole step: hyperopt draws floats."""
    steps = space.get("quniform", {})
    return {
        name: int(value) if name in steps and all(bound % 1 == 0 for bound in steps[name]) else value
        for name, value in point.items()
    }


def _fixed_options(options: argparse.Namespace, others: Sequence[str]) -> dict[str, Any]:
    """Options that all trials share: those of the command line."""
    named = {name: getattr(options, name) for name in ("model", "dataset") if getattr(options, name) is not None}
    return {**named, **{name: literal(value) for name, value in flags(others).items()}}


def read_space(file: Path) -> Space:
    """The search space of a parameter file of RecBole's: lines of a name, a kind, and values or bounds.

    RecBole itself runs such a file as code and drops lines that it does not understand.

    Raises:
        UserError: an unreadable file, or lines that are none of these, all at once.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--params_file={file} cannot be read ({error}): give a parameter file; {_FORM}") from error
    space, faults, names = Space(), [], set[str]()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, kind, values = [*line.split(maxsplit=2), "", ""][:3]
        if (read := _read_values(kind, values)) is None:
            faults.append(f"{file}, line {number}: '{line.strip()}' cannot be read: {_FORM}")
        elif name in names:
            faults.append(f"{file}, line {number}: option '{name}' stands on two lines: keep one")
        else:
            space.setdefault(kind, {})[name] = read
        names.add(name)
    if not names:
        faults.append(f"{file} names no option: {_FORM}")
    if faults:
        raise UserError(faults)
    return space


def _read_values(kind: str, text: str) -> list[Any] | None:
    """The choices or bounds; None where they do not fit the kind."""
    if kind == "choice":
        values = literal(text)
        return values if isinstance(values, list) and values else None
    try:
        bounds = [float(bound) for bound in text.split(",")]
    except ValueError:
        return None
    return bounds if len(bounds) == _N_BOUNDS.get(kind) and bounds[0] < bounds[1] else None


def _metrics(result: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in result.items())


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("tune", "recbole_llmtrsr.commands.tune"),
        "Search for the options with the best validation result, by RecBole's HyperTuning. Every trial is a run with a"
        f" result folder. In the parameter file, {_FORM}. All other options of a run are accepted and apply to every"
        " trial, such as --epochs=3.",
        [
            "--params_file=space.txt --model=SASRec --dataset=ml-100k --epochs=3",
            "--params_file=space.txt --config_files=shop.yaml --algo=bayes --max_evals=20",
        ],
    )
    add = parser.add_argument
    add("--params_file", required=True, type=Path, metavar="FILE", help="parameter file of RecBole's")
    add("--model", help="model name, if no property file names it")
    add("--dataset", help="data set name, if no property file names it")
    add("--config_files", help="property files of options, separated by commas or spaces")
    add("--algo", choices=_ALGORITHMS, default="exhaustive", help="how points are chosen (exhaustive)")
    add("--max_evals", type=count, default=100, help="most trials of random and bayes (100); exhaustive tries all")
    add("--early_stop", type=count, help=f"trials without progress that end a search ({_EARLY_STOP}; exhaustive: none)")
    add("--out", type=Path, default=Path("hyper.result"), metavar="FILE", help="result file (hyper.result)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
