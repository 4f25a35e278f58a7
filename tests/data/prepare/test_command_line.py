"""``python -m recbole_llmtrsr.data.prepare``: exit codes and texts."""

from __future__ import annotations

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
    assert lines[0] == f"mind: {tmp_path}/dataset/tiny/tiny.inter, {tmp_path}/dataset/tiny/tiny.item"
    assert [line.split() for line in lines[1:3]] == [["users", "1"], ["users", "with", "an", "empty", "history", "0"]]
    assert (tmp_path / "dataset" / "tiny" / "tiny.inter").read_text().count("\n") == 3


def test_a_fault_of_the_user_gives_code_2_and_its_text_without_a_traceback(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "recbole_llmtrsr.data.prepare",
        "mind",
        f"--source={tmp_path}",
        f"--out={tmp_path}/tiny",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: no behaviors.tsv and no news.tsv in {tmp_path}: give the folder")
    assert "Traceback" not in done.stderr


def test_an_unknown_name_lists_the_accepted_and_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mnd", "--source=a", "--out=b"]) == 2
    assert capsys.readouterr().err == "error: unknown converter 'mnd': accepted are mind; did you mean 'mind'?\n"


def test_a_name_like_no_other_gets_the_list_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["netflix"]) == 2
    assert capsys.readouterr().err == "error: unknown converter 'netflix': accepted are mind\n"


@pytest.mark.parametrize("arguments", [[], ["mind"], ["mind", "--source=a"], ["mind", "--sourc=a", "--out=b"]])
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
        assert entry.source in " ".join(capsys.readouterr().out.split())
