"""Atomic files: whole or not at all, one line per row."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.atomic import (
    atomic_files,
    atomic_paths,
    is_list_token,
    is_number,
    is_token,
)
from recbole_llmtrsr.errors import UserError

COLUMNS = {"inter": ("user_id:token", "item_id:token"), "item": ("item_id:token",)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rows_follow_the_header(tmp_path: Path) -> None:
    with atomic_files(tmp_path / "tiny", COLUMNS) as (files, _):
        files["item"].write("i1")
        files["inter"].write("u1", "i1")
    assert (tmp_path / "tiny" / "tiny.inter").read_bytes() == b"user_id:token\titem_id:token\nu1\ti1\n"
    assert (tmp_path / "tiny" / "tiny.item").read_bytes() == b"item_id:token\ni1\n"
    assert names(tmp_path / "tiny") == ["tiny.inter", "tiny.item"]


def test_a_row_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 columns is needed, got 1"), atomic_files(tmp_path, COLUMNS) as (files, _):
        files["inter"].write("u1")


def test_a_file_in_place_of_the_folder_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    out = tmp_path / "taken" / "tiny"
    with (
        pytest.raises(UserError, match="cannot write to --out=.*choose a writable folder"),
        atomic_files(out, COLUMNS),
    ):
        pass


def test_an_out_folder_without_a_name_is_an_error() -> None:
    with pytest.raises(UserError, match="--out=/ has no name to call the dataset by"):
        atomic_paths(Path("/"), ["inter"])


def test_the_working_folder_lends_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ml").mkdir()
    monkeypatch.chdir(tmp_path / "ml")
    assert atomic_paths(Path("."), ["inter"]) == [Path("ml.inter")]


def test_one_line_leaves_no_line_end_of_any_kind() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert len(one_line(everything).splitlines()) == 1


@pytest.mark.parametrize("text", ['"quoted"', "&lt;b&gt;", "م\u200cی", "👩\u200d🔬", "e\u0301", "a-b_c\\n"])
def test_one_line_keeps_everything_else(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("N1", "N 1", " 1", "1 ", "\u3000", "NULLS", "01", "1.0", '"', "#", "\U0001f469")),
        *((text, False) for text in ("", "null", "nan", "NA", "[PAD]")),
        *((f"N{sign}1", False) for sign in "\t\n\r\x00\x0b\x1c\x85\u2028\ud800"),
    ],
)
def test_a_token_is_what_recbole_reads_as_it_stands(text: str, expected: bool) -> None:
    assert is_token(text) is expected


@pytest.mark.parametrize(("text", "expected"), [("N1", True), ("N 1", False), (" N1", False), ("N\u30001", False)])
def test_in_a_list_a_token_has_no_blank(text: str, expected: bool) -> None:
    assert is_list_token(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", True),
        ("-4.5e3", True),
        (".5", True),
        ("1_000", False),
        ("nan", False),
        ("1e999", False),
        (" 4", False),
        ("", False),
    ],
)
def test_a_number_is_what_pandas_reads_as_one(text: str, expected: bool) -> None:
    assert is_number(text) is expected


def test_a_set_of_files_appears_at_once_whoever_writes_them(tmp_path: Path) -> None:
    with atomic_files(tmp_path / "tiny", COLUMNS, ["extra.bin"]) as (_, drafts):
        drafts["extra.bin"].write_bytes(b"\0")
        assert not (tmp_path / "tiny" / "tiny.inter").exists()
    assert names(tmp_path / "tiny") == ["tiny.extra.bin", "tiny.inter", "tiny.item"]


def test_a_set_with_a_file_that_was_not_written_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"), atomic_files(tmp_path / "tiny", COLUMNS, ["extra.bin"]):
        pass
    assert not (tmp_path / "tiny").exists()
