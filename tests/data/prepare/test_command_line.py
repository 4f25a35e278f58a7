"""``python -m recbole_llmtrsr.data.prepare``: exit codes and texts."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_llmtrsr.data.prepare import CONVERTERS
from recbole_llmtrsr.data.prepare.__main__ import main

ROOT = Path(__file__).parents[3]


def raw_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "behaviors.tsv").write_text("1\tu1\t11/12/2019 2:14:46 PM\tn1\tn2-1 n1-0\n")
    (folder / "news.tsv").write_text("n1\tnews\t\tOne\t\t\t\t\nn2\tnews\t\tTwo\t\t\t\t\n")
    return folder


def test_the_module_converts_and_prints_its_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recbole_llmtrsr.data.prepare", "mind"]
    flags = [f"--source={raw_folder(tmp_path / 'raw')}", f"--out={tmp_path / 'dataset' / 'tiny'}"]
    done = subprocess.run(command + flags, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    files = [f"{tmp_path}/dataset/tiny/tiny.{suffix}" for suffix in ("inter", "item", "impressions.npz")]
    assert lines[0] == f"mind: {', '.join(files)}"
    assert [line.split() for line in lines[1:3]] == [["users", "1"], ["users", "with", "an", "empty", "history", "0"]]
    assert (tmp_path / "dataset" / "tiny" / "tiny.inter").read_text().count("\n") == 3


def test_malformed_lines_that_the_text_leaves_out_are_in_a_file_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = raw_folder(tmp_path / "raw")
    good = (raw / "news.tsv").read_text()
    flags = ["mind", f"--source={raw}", f"--out={tmp_path / 'tiny'}", "--max_lost=0.9"]
    listed = tmp_path / "tiny" / "tiny.malformed.tsv"

    (raw / "news.tsv").write_text(good + "short\n" * 11)
    assert main(flags) == 0
    assert f"\nall malformed lines: {listed}\npublished: MINDsmall" in capsys.readouterr().out
    lines = listed.read_text().splitlines()
    assert lines == [
        "file\tline\twrong\tdone",
        *(f"news.tsv\t{line}\tnot 8 columns\tline skipped" for line in range(3, 14)),
    ]

    (raw / "news.tsv").write_text(good + "short\n" * 10)
    assert main(flags) == 0
    assert "10 (line skipped); line 3, 4, 5, 6, 7, 8, 9, 10, 11, 12\npublished:" in capsys.readouterr().out
    assert not listed.exists()


def test_a_fault_of_the_user_gives_code_2_and_its_text_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recbole_llmtrsr.data.prepare", "mind"]
    flags = [f"--source={tmp_path}", f"--out={tmp_path}/tiny"]
    done = subprocess.run(command + flags, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: no behaviors.tsv and no news.tsv in {tmp_path}: give the folder")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "near"), [("mnd", "; did you mean 'mind'?"), ("netflix", "")])
def test_an_unknown_name_lists_the_accepted_and_the_nearest(
    name: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--source=a", "--out=b"]) == 2
    known = "mind, amazon-m2, amazon-reviews, movielens, table"
    assert capsys.readouterr().err == f"error: unknown converter '{name}': accepted are {known}{near}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["mind"], ["mind", "--source=a"], ["mind", "--sourc=a", "--out=b"], ["table", "--source=a", "--out=b"]],
)
def test_missing_or_misspelt_flags_give_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "required" in capsys.readouterr().err


def test_every_converter_has_a_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    for name, entry in CONVERTERS.items():
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        page = " ".join(capsys.readouterr().out.split())
        assert entry.source in page
        assert all(f"--{option.name} " in page and option.help in page for option in entry.options)


def test_options_are_those_of_the_converter_s_own_arguments() -> None:
    for entry in CONVERTERS.values():
        arguments = inspect.signature(entry.convert).parameters
        assert ["source", "out", *(option.name for option in entry.options)] == list(arguments)
        assert {"encoding", "max_lost"} <= arguments.keys()
        for option in entry.options:
            assert option.is_required == (arguments[option.name].default is inspect.Parameter.empty)


CORE, SHARE = "a whole number >= 1, or ~ for none", "a share from 0 to 1, such as 0.1 for one row in ten"


@pytest.mark.parametrize(
    ("name", "option", "text", "wanted"),
    [
        *(("amazon-reviews", "k_core", text, CORE) for text in ("0", "-1", "five", "")),
        *(("mind", "max_lost", text, SHARE) for text in ("-0.1", "1.1", "5%", "nan", "")),
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_is_accepted(
    name: str, option: str, text: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--source=a", "--out=b", f"--{option}={text}"]) == 2
    assert capsys.readouterr().err == f"error: --{option} must be {wanted}, got '{text}'\n"


def test_an_error_begins_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.csv").write_text("who;what\nu1;i1\n")
    (tmp_path / "items.csv").write_text("what,title\ni1,One\n")
    files = [f"--source={tmp_path}", f"--out={tmp_path}/tiny", "--interactions=events.csv", "--items=items.csv"]
    assert main(["table", *files, "--user=who", "--item=what", "--text=title"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_options_reach_the_converter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.csv").write_text("who,what\nu1,i1\nu1,i2\n")
    (tmp_path / "items.csv").write_text("what,title,maker\ni1,One,A\ni2,Two,B\n")
    files = [f"--source={tmp_path}", f"--out={tmp_path}/tiny", "--interactions=events.csv", "--items=items.csv"]
    assert main(["table", *files, "--user=who", "--item=what", "--text=maker,title"]) == 0
    assert (tmp_path / "tiny" / "tiny.item").read_text().splitlines()[1:] == ["i1\tA\tOne", "i2\tB\tTwo"]
    assert ["events", "2"] in [line.split() for line in capsys.readouterr().out.splitlines()]
