"""Checks that the columns named by options exist in the atomic files, are loaded, and have the right type.

RecBole silently skips a column of `load_col` that does not exist, and raises a KeyError if a model reads a column that
was not loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.config.recbole_options import INTERVAL_WORDS, is_interval
from recbole_llmtrsr.errors import did_you_mean

_NUMBERS = ("float", "float_seq")


def faults_of_columns(config: Config) -> Iterator[str]:
    """Columns that an option names but that are missing, not loaded, or of the wrong type.

    The .inter files must have a valid header (`header_fault`).
    """
    files = _headers(config)
    yield from _faults_of_load_col(config, files)
    loaded = {
        name: kind
        for file, columns in files.items()
        for name, kind in columns.items()
        if _is_loaded(config, file, name)
    }
    of_models = (option for option in options_of("columns of models") if option in config.internal_config_dict)
    read, of_numbers = [*options_of("columns"), *of_models], options_of("columns of numbers")
    for option in read:
        for name in _named(config[option]):
            if name not in loaded:
                yield f"{option} names the column '{name}', which is not loaded: {_remedy(name, option, files, loaded)}"
            elif option in of_numbers and loaded[name] not in _NUMBERS:
                yield f"{option} names the column '{name}' of type {loaded[name]}: it must be float"
    everywhere = {name for columns in files.values() for name in columns}
    for name in _named(config["seq_len"]):
        if name not in everywhere:
            yield f"seq_len names the column '{name}', which no file has; columns are {', '.join(sorted(everywhere))}"
    for name, values in (config["val_interval"] or {}).items():
        kind = loaded.get(name)
        if kind in _NUMBERS and not is_interval(values):
            yield f"val_interval: the column '{name}' holds numbers, so it takes {INTERVAL_WORDS}, got {values!r}"
        elif kind == "token" and not isinstance(values, list | tuple):
            yield f"val_interval: the column '{name}' holds tokens, so it takes a list of them, got {values!r}"
        elif kind == "token_seq":
            yield f"val_interval: the column '{name}' holds sequences of tokens, which RecBole cannot filter"


def _headers(config: Config) -> dict[str, dict[str, str]]:
    """Column types of every atomic file of the data set, by suffix and column."""
    folder, name = Path(config["data_path"]), config["dataset"]
    parts = config["benchmark_filename"]
    paths = {path.name.removeprefix(f"{name}."): path for path in sorted(folder.glob(f"{name}.*")) if path.is_file()}
    if parts:
        paths["inter"] = folder / f"{name}.{parts[0]}.inter"
    headers = {}
    for suffix, path in paths.items():
        try:
            with path.open(encoding=config["encoding"], newline="\n") as file:
                names = file.readline(65_536).rstrip("\r\n").split(config["field_separator"])
            headers[suffix] = dict(name.split(":") for name in names)
        except (ValueError, OSError):  # not an atomic file: RecBole's reader reports it
            continue
    return headers


def _is_loaded(config: Config, file: str, column: str) -> bool:
    wanted = config["load_col"] if config["load_col"] is None else config["load_col"].get(file, ())
    without = (config["unload_col"] or {}).get(file, ())
    return (wanted is None or wanted == "*" or column in wanted) and column not in without


def _faults_of_load_col(config: Config, files: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for option in ("load_col", "unload_col"):
        for file, columns in (config.given.get(option) or {}).items():
            if file not in files:
                yield (
                    f"{option} names the file {config['dataset']}.{file}, which is not in {config['data_path']}:"
                    f" the files there are {', '.join(files)}"
                )
            elif columns != "*":
                yield from (
                    f"{option} names the column '{name}', which {config['dataset']}.{file} does not have"
                    f"{did_you_mean(name, files[file])}; its columns are {', '.join(files[file])}"
                    for name in columns
                    if name not in files[file]
                )


def _named(value: str | Iterable[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _remedy(name: str, option: str, files: Mapping[str, Mapping[str, str]], loaded: Mapping[str, str]) -> str:
    holder = next((file for file, columns in files.items() if name in columns), None)
    if holder is not None:
        return f"list it in load_col: {{{holder}: [..., {name}]}}"
    return f"no file has it{did_you_mean(name, loaded)}; set {option} to columns that are loaded ({', '.join(loaded)})"
