"""Every command and program in the docs and the README: its options exist and accept the values; some pages run."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_block import run_block

from recbole_llmtrsr.commands.dispatch import COMMANDS
from recbole_llmtrsr.config.checks import unread_options
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.settings import OPTION_NAMES
from recbole_llmtrsr.config.sources import RUNNER_FLAGS, flags, model_options, recbole_options
from recbole_llmtrsr.registry import get_model

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)(?: title=\"([\w.]+)\")?\n(.*?)^\1```$", flags=re.MULTILINE | re.DOTALL)
# Programs whose flags are not ours.
OTHERS = {"cat", "cd", "curl", "docker", "git", "head", "kill", "jupyter", "source", "uv", "vllm"}
OTHER_MODULES = {"build", "pytest", "venv", "jupyter"}


def blocks(kinds: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for _, kind, _, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind in kinds:
                yield page, text


def commands(text: str) -> Iterator[list[str]]:
    """Words of each command of a shell block, without variables before it and launchers of several processes."""
    for line in text.replace("\\\n", "").splitlines():
        for part in re.split(r" && | \|\| | \| ", re.sub(r"(^| )#.*", "", line)):
            words = shlex.split(part)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                del words[0]
            if words and words[0] in ("accelerate", "torchrun"):
                start = next(place for place, word in enumerate(words) if word == "-m" or word.endswith(".py"))
                words = ["python", *words[start:]]
            if words:
                yield words


# Each command once, with the page that has it.
SHELL = {tuple(words): page.stem for page, text in blocks(("sh",)) for words in commands(text)}


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """A folder with every titled file of the pages, where commands are checked."""
    for page in PAGES:
        for _, _, title, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if title:
                (tmp_path / title).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["docs"])
    return tmp_path


def check_run(arguments: list[str]) -> None:
    given = flags(arguments)
    assert len(given) == len(arguments), f"written otherwise than --option=value: {arguments}"
    labels = given.get("model", "LLMTRSR").split(",")
    property_files = re.split(r"[\s,]+", given["config_files"]) if "config_files" in given else []
    options = {name: value for name, value in given.items() if name not in ("model", "dataset", "config_files")}
    configs = [
        Config(get_model(label.partition("@")[0]), given.get("dataset", "ml-100k"), property_files, options, label)
        for label in labels
    ]
    assert not [*unread_options(configs, model_options())]
    named = {name.rpartition(".")[2] for name in options}
    known = recbole_options().union(OPTION_NAMES, RUNNER_FLAGS, *(config.internal_config_dict for config in configs))
    assert named <= known, named - known
    assert {name.rpartition(".")[0] for name in options} <= {"", *labels}


def check_command(name: str, arguments: list[str]) -> None:
    if name == "run":
        check_run(arguments)
    elif name != "--version":
        others = importlib.import_module(COMMANDS[name].module)._parser().parse_known_args(arguments)[1]
        assert name == "tune" or not others, others


def check(words: list[str], files: Path) -> None:
    program, *rest = words
    if program.endswith("python") or program.endswith("python3"):
        if rest[0] == "-m" and rest[1].partition(".")[0] == "recbole_llmtrsr":
            (name,) = (name for name, one in COMMANDS.items() if one.module in (rest[1], f"{rest[1]}.__main__"))
            check_command(name, rest[2:])
        elif rest[0] == "-m":
            assert rest[1] in OTHER_MODULES, rest
        elif rest[0] == "run_recbole_llmtrsr.py":
            check_run(rest[1:])
        else:
            assert (files / rest[0]).is_file() or (ROOT / rest[0]).is_file(), rest[0]
    elif program == "recbole-llmtrsr":
        check_command(rest[0], rest[1:])
    elif program.endswith("pip"):
        extras = {name for found in re.findall(r"\[([\w,]+)\]", " ".join(rest)) for name in found.split(",")}
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        assert not [name for name in extras if f'"{name}": ' not in setup]
    elif program == "make":
        targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert {*rest} <= {*targets}
    else:
        assert program in OTHERS, words


@pytest.mark.parametrize("command", SHELL, ids=SHELL.values())
def test_a_command_names_options_that_exist_with_values_that_they_accept(command, files):
    check(list(command), files)


def test_most_commands_are_ours():
    ours = ("recbole_llmtrsr", "run_recbole_llmtrsr.py", "recbole-llmtrsr")
    assert sum(any(word.startswith(ours) for word in words) for words in SHELL) > 40


PROGRAMS = {text: page.stem for page, text in blocks(("python",))}


@pytest.mark.parametrize("program", PROGRAMS, ids=PROGRAMS.values())
def test_a_program_imports_what_there_is_and_calls_it_with_its_parameters(program):
    tree = ast.parse(program)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            names.update({one.asname or one.name: getattr(module, one.name) for one in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = names.get(node.func.id) if isinstance(node.func, ast.Name) else _attribute(node.func, names)
            if called is not None and not any(isinstance(one, ast.Starred) for one in node.args):
                given = {one.arg: one.value for one in node.keywords if one.arg}
                inspect.signature(called).bind(*node.args, **given)


def _attribute(function: ast.expr, names: dict[str, object]) -> object:
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in names:
        return getattr(names[function.value.id], function.attr)
    return None


# Pages whose commands and programs run one after another; here with fewer users and targets, to be done in minutes.
RUN = ["full_ranking", "recommend", "report"]
SMALLER = ' --user_inter_num_interval="[36,41]" --max_train_targets_per_user=1 --epochs=1 --use_gpu=False'


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_and_programs_of_a_guide_run(page, tmp_path, warm):
    for _, kind, _, text in BLOCK.findall((ROOT / "docs" / "guides" / f"{page}.md").read_text(encoding="utf-8")):
        if kind == "python":
            (tmp_path / "program.py").write_text(text, encoding="utf-8")
            run_block("python program.py", tmp_path, warm)
        elif kind == "sh" and not text.startswith(("recbole-llmtrsr serve", "curl")):
            smaller = re.sub(r"^(recbole-llmtrsr run .*)$", rf"\1{SMALLER}", text, flags=re.MULTILINE)
            run_block(smaller.replace(" --epochs=2", ""), tmp_path, warm)
