"""The console command: its help, its version, and the sub-command that gets the arguments."""

from __future__ import annotations

import sys
from importlib.metadata import version
from platform import python_version
from types import SimpleNamespace

import pytest

import recbole_llmtrsr
from recbole_llmtrsr.commands.dispatch import COMMANDS, main
from recbole_llmtrsr.data.prepare import CONVERTERS


@pytest.fixture
def as_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was started as the console command, in a terminal of 80 columns."""
    monkeypatch.setattr("sys.argv", ["/usr/bin/recbole-llmtrsr"])
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gets_the_arguments_behind_its_name_and_gives_the_exit_code(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[list[str]] = []
    stub = SimpleNamespace(main=lambda arguments: got.append(arguments) or 7)
    monkeypatch.setitem(sys.modules, COMMANDS[name].module, stub)
    assert main([name, "--a=b", "run"]) == 7
    assert got == [["--a=b", "run"]]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_help_lists_every_command_in_80_columns(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: recbole-llmtrsr <command> [options]"
    listed = [line.split()[0] for line in lines[lines.index("commands:") + 1 : lines.index("options:") - 1]]
    assert listed == list(COMMANDS)
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("as_console")
@pytest.mark.parametrize("arguments", [*([name] for name in COMMANDS), *(["prepare", name] for name in CONVERTERS)])
def test_the_help_of_a_command_has_its_name_and_examples_in_80_columns(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: recbole-llmtrsr {' '.join(arguments)} ")
    assert max(map(len, lines)) <= 80
    if len(arguments) == 1:
        assert lines[lines.index("examples:") + 1].startswith(f"  recbole-llmtrsr {arguments[0]} ")


def test_without_the_console_command_the_help_names_the_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/lib/recbole_llmtrsr/serve/__main__.py"])
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert capsys.readouterr().out.startswith("usage: python -m recbole_llmtrsr.serve ")


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--version"]])
def test_the_version_is_one_line_with_those_of_the_host(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    others = "".join(f", {name} {version(name)}" for name in ("recbole", "torch", "transformers"))
    assert capsys.readouterr().out == (
        f"recbole_llmtrsr {recbole_llmtrsr.__version__}{others}, Python {python_version()}\n"
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "srve",
            "unknown command 'srve': accepted are run, prepare, summaries, candidates, evaluate, report, serve, export,"
            " tune; did you mean 'serve'?",
        ),
        (
            "--model=Pop",
            "'--model=Pop' stands before a command: write the command first, such as recbole-llmtrsr run --model=Pop",
        ),
    ],
)
def test_what_is_no_command_is_refused_with_a_remedy(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
