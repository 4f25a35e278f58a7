"""Sources of options (property files, presets, flags), and the names of RecBole's options."""

from __future__ import annotations

import ast
import importlib.util
import re
import runpy
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.config.settings import OPTION_NAMES
from recbole_llmtrsr.errors import UserError

RUNNER_FLAGS = ("model", "dataset", "config_files", "preset")
_PLAIN = re.compile(r"[\w./:=,@%+~-]+")  # no shell reads anything into these


@dataclass(frozen=True)
class Command:
    """The command line, or the call from Python, that starts a run.

    Attributes:
        text: as a user would type it; a run records it in result.json.
        flags: options of a command line, which are stronger than files and dictionaries.
    """

    text: str | None = None
    flags: Mapping[str, str] = field(default_factory=dict)


def typed_command(program: str, arguments: Sequence[str]) -> str:
    """A command line as a user would type it, with quotes only where a shell needs them.

    Args:
        program: path of the program, as in ``sys.argv[0]``.
        arguments: those behind it.

    >>> print(typed_command("/home/me/run_recbole_llmtrsr.py", ["--epochs=3", "--eval_args={mode: full}", "--a=b$c"]))
    python run_recbole_llmtrsr.py --epochs=3 --eval_args="{mode: full}" --a='b$c'
    >>> typed_command("bin/recbole-llmtrsr", ["-m", "Pop"]), typed_command("recbole_llmtrsr/__main__.py", [])
    ('recbole-llmtrsr run -m Pop', 'python -m recbole_llmtrsr')
    """
    name = Path(program).name
    short = {"__main__.py": "python -m recbole_llmtrsr", "recbole-llmtrsr": "recbole-llmtrsr run"}
    return " ".join([short.get(name, f"python {name}"), *map(_quoted, arguments)])


def _quoted(argument: str) -> str:
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if argument and _PLAIN.fullmatch(argument):
        return argument
    readable = f'"{value}"' if not re.search(r'["$`\\!]', value) else shlex.quote(value)
    return f"{name}{equals}{readable}" if not name or _PLAIN.fullmatch(name) else shlex.quote(argument)


def call_text(function: str, **arguments: Any) -> str:
    """A call of a public function, without the arguments that were left out.

    >>> call_text("compare", models=["LLMTRSR", "Pop"], dataset="ml-100k", config_dict={"epochs": 3}, saved=True)
    "recbole_llmtrsr.compare(models=['LLMTRSR', 'Pop'], dataset='ml-100k', config_dict={'epochs': 3})"
    """
    given = {name: value for name, value in arguments.items() if value is not None and value is not True}
    return f"recbole_llmtrsr.{function}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def properties_dir() -> Path:
    """The folder of our property files: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).parents[1]
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "model" / "LLMTRSR.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no property files beside or inside {package}: reinstall recbole_llmtrsr")


def recbole_properties() -> Path:
    """The folder of RecBole's property files."""
    spec = importlib.util.find_spec("recbole")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "properties"


def preset_names() -> list[str]:
    """The presets that there are."""
    return sorted(path.stem for path in (properties_dir() / "presets").glob("*.yaml"))


def preset_files(name: str) -> list[Path]:
    """The property files of a preset, weakest first: it may name another preset that it builds on.

    Raises:
        UserError: no such preset.
    """
    if name not in preset_names():
        raise UserError(f"preset must be one of {', '.join(preset_names())}, got '{name}'")
    file = properties_dir() / "presets" / f"{name}.yaml"
    base = option_from_sources("preset", [file], {})
    return [*(preset_files(base) if base else []), file]


def read_properties(file: Path, loader: Any = yaml.SafeLoader) -> dict[str, Any]:
    """The options of a property file, by a loader of PyYAML's; RecBole's also reads ``1e-3`` as a number.

    Raises:
        UserError: it cannot be read, or holds something other than options.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"property file {file} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"property file {file} must hold 'option: value' lines, it holds a {type(content).__name__}")
    if names := [name for name in content if not isinstance(name, str)]:
        raise UserError(f"property file {file}: option names must be words, got {names}: quote them if they are meant")
    return content


def option_from_sources(name: str, config_files: Sequence[str | Path], config_dict: Mapping[str, Any]) -> Any:
    """A value that is needed before a Config can be made (model, dataset), from the dictionary or the files."""
    sources = (config_dict, *(read_properties(Path(file)) for file in reversed(config_files)))
    return next((source[name] for source in sources if name in source), None)


def flags(arguments: Iterable[str]) -> dict[str, str]:
    """The flags ``--name=value`` among the arguments of a command line.

    Raises:
        UserError: a flag has two values.
    """
    given: dict[str, str] = {}
    for argument in arguments:
        flag = re.fullmatch(r"--([\w.@-]+)=(.*)", argument, flags=re.DOTALL)
        if flag is None:
            continue
        name, value = flag.groups()
        if given.setdefault(name, value) != value:
            raise UserError(f"flag --{name} is given twice, with {given[name]!r} and {value!r}: keep one")
    return given


def literal(text: str) -> Any:
    """A flag's value: a Python literal, true/false in any case, a YAML list or mapping, else the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text in ("~", "null"):
        return None
    with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ast.literal_eval(text)
    if text[:1] in ("[", "{"):  # as in a property file: {mode: uni100}
        with suppress(yaml.YAMLError, ValueError, RecursionError):
            return yaml.safe_load(text)
    return text


def recbole_options() -> set[str]:
    """Names of all options that RecBole or one of its models reads."""
    files = (file for file in recbole_properties().glob("**/*.yaml") if file.name != "url.yaml")
    of_files = (name for file in files for name in _names_in(file))
    # The file alone: to import recbole.utils is to import torch, and a misspelt flag should not wait for it.
    lists = runpy.run_path(str(recbole_properties().parent / "utils" / "argument_list.py"))
    declared = (
        name for kind in ("general", "training", "evaluation", "dataset") for name in lists[f"{kind}_arguments"]
    )
    return {*declared, *of_files, *options_of("undeclared")}


def model_options() -> set[str]:
    """Names of options that only the property files of RecBole's models set."""
    folder = recbole_properties()
    of_models = {name for file in (folder / "model").glob("*.yaml") for name in _names_in(file)}
    return (
        of_models - _names_in(folder / "overall.yaml") - _names_in(folder / "dataset" / "sample.yaml") - {*OPTION_NAMES}
    )


def _names_in(file: Path) -> set[str]:
    return set(re.findall(r"^(\w+)\s*:", file.read_text(encoding="utf-8"), flags=re.MULTILINE))
