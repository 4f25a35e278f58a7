"""``python -m recbole_llmtrsr.summarizer``: exit codes and texts."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.summarizer.__main__ import main
from recbole_llmtrsr.summarizer.store.store import Record, SummaryStore

ROOT = Path(__file__).parents[2]
MADE = {"created": "2026-01-02T03:04:05+00:00", "version": "0.1.0"}
A, B, C = "a" * 32, "b" * 32, "ab" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two blocks, of which the merge was made, and an update of a call that is not there."""
    path = tmp_path / "s.sqlite"
    with SummaryStore(path) as store:
        writer = store.writer_id("org/model", {"limit": 160})
        records = [
            Record(bytes.fromhex(B), "block", GeneratedText("Likes B.", 300, 20, 0.5), ("item:i1", "item:i2")),
            Record(bytes.fromhex(C), "block", GeneratedText("", 700, 160, 1.5, "length"), ("item:i3",)),
            Record(bytes.fromhex(A), "merge", GeneratedText("Likes A."), (f"call:{B}", f"call:{C}", f"call:{B}"), 1),
            Record(bytes.fromhex("0" * 32), "update", GeneratedText("Zero."), (f"call:{'f' * 32}", "item:i4")),
        ]
        for record in records:
            store.insert([replace(record, writer=writer, **MADE)])
    return path


def damage(path: Path) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE summaries SET text = 'Hates B.' WHERE key = ?", (bytes.fromhex(B),))
    database.close()


B_SHOWN = f"""\
{B}  block, by 1: org/model, 2026-01-02T03:04:05+00:00, 0.1.0
  300 tokens read, 20 written in 0.50 s, finish: stop
  from: item:i1, item:i2
  Likes B.
"""
C_SHOWN = f"""\
{C}  block, by 1: org/model, 2026-01-02T03:04:05+00:00, 0.1.0
  700 tokens read, 160 written in 1.50 s, finish: length
  from: item:i3
  (empty)
"""
A_SHOWN = f"""\
{A}  merge, attempt 1, by 1: org/model, 2026-01-02T03:04:05+00:00, 0.1.0
  0 tokens read, 0 written in 0.00 s, finish: stop
  from: call:{B}, call:{C}, call:{B}
  Likes A.
"""
ZERO_SHOWN = f"""\
{"0" * 32}  update, by 1: org/model, 2026-01-02T03:04:05+00:00, 0.1.0
  0 tokens read, 0 written in 0.00 s, finish: stop
  from: call:{"f" * 32}, item:i4
  Zero.
"""
SETTINGS = 'settings of its writer: {"limit":160}\n'


def test_show_prints_a_summary_after_all_that_it_was_made_from(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "AAA", f"--store={path}"]) == 0
    assert capsys.readouterr().out == "\n".join([B_SHOWN, C_SHOWN, A_SHOWN, SETTINGS])


def test_show_tells_what_the_store_lacks(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "0", f"--store={path}"]) == 0
    lacking = f"{'f' * 32}  is not in this store, or is damaged\n"
    assert capsys.readouterr().out == "\n".join([lacking, ZERO_SHOWN, SETTINGS])


def test_show_without_a_key_prints_the_latest(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--latest=2", f"--store={path}"]) == 0
    assert capsys.readouterr().out == "\n".join([ZERO_SHOWN, A_SHOWN]) + "\n"


def test_show_ends_where_imported_calls_are_made_from_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SummaryStore(tmp_path / "s.sqlite") as store:
        writer = store.writer_id("w", {})
        for key, made_from in ((A, B), (B, A)):
            record = Record(bytes.fromhex(key), "merge", GeneratedText(key[0]), (f"call:{made_from}",))
            store.insert([replace(record, writer=writer, **MADE)])
    assert main(["show", "a", f"--store={tmp_path / 's.sqlite'}"]) == 0
    printed = capsys.readouterr().out
    assert (printed.count(f"{A}  merge"), printed.count(f"{B}  merge")) == (1, 1)


def test_show_follows_a_chain_as_long_as_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SummaryStore(tmp_path / "s.sqlite") as store:
        writer = store.writer_id("w", {})
        updates = [
            Record(n.to_bytes(16, "big"), "update", GeneratedText(f"text {n}"), (f"call:{n - 1:032x}",))
            for n in range(1, 2001)
        ]
        store.insert([replace(record, writer=writer, **MADE) for record in updates])
    assert main(["show", f"{2000:032x}", f"--store={tmp_path / 's.sqlite'}"]) == 0
    texts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  text")]
    assert texts == [f"  text {n}" for n in range(1, 2001)]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "b" * 31 + "0",
            "error: no key of {path} begins with 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0': run 'show' without a key",
        ),
        ("a", f"error: 2 keys of {{path}} begin with 'a': give more digits of one of {A}, {C}\n"),
        ("xyz", "error: a summary's key must be given by its first 1 to 32 hexadecimal digits, got 'xyz'\n"),
    ],
)
def test_a_key_that_tells_no_summary_or_several_is_a_fault(
    path: Path, key: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", key, f"--store={path}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message.format(path=path))


def test_count_gives_calls_tokens_seconds_and_finish_by_writer_and_kind(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["count", f"--store={path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = "writer kind calls prompt tokens new tokens seconds stop length"
    assert " ".join(lines[0].split()) == header
    assert [line.split() for line in lines[1:]] == [
        ["1:", "org/model", "block", "2", "1,000", "180", "2.0", "1", "1"],
        ["1:", "org/model", "merge", "1", "0", "0", "0.0", "1", "0"],
        ["1:", "org/model", "update", "1", "0", "0", "0.0", "1", "0"],
    ]


def test_verify_finds_a_sound_store_sound(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", f"--store={path}"]) == 0
    assert capsys.readouterr().out == f"{path}: 4 summaries, 0 faults\n"


def test_verify_lists_what_is_damaged_with_code_1(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(path)
    assert main(["verify", f"--store={path}"]) == 1
    assert capsys.readouterr().out == f"summary {B}: damaged\n{path}: 4 summaries, 1 faults\n"


def test_an_export_to_a_file_is_imported_into_a_new_store(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, new, again = path.with_name("out.jsonl"), path.with_name("new.sqlite"), path.with_name("again.jsonl")
    assert main(["export", f"--store={path}", f"--out={out}"]) == 0
    assert capsys.readouterr().err == f"{out}: 4 summaries, 0 damaged ones omitted\n"
    assert main(["import", f"--store={new}", f"--source={out}"]) == 0
    assert capsys.readouterr().out.startswith(f"{new}: 4 new, 0 already there, 0 with another text (unchanged")
    assert main(["export", f"--store={new}", f"--out={again}"]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["again.jsonl", "new.sqlite", "out.jsonl", "s.sqlite"]


def test_import_replaces_other_texts_when_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = path.with_name("out.jsonl")
    main(["export", f"--store={path}", f"--out={out}"])
    out.write_text(out.read_text().replace("Likes B.", "Hates B."))
    assert main(["import", f"--store={path}", f"--source={out}"]) == 0
    assert "0 new, 3 already there, 1 with another text (unchanged in the store; --replace" in (capsys.readouterr().out)
    assert main(["import", f"--store={path}", f"--source={out}", "--replace"]) == 0
    assert capsys.readouterr().out == f"{path}: 0 new, 3 already there, 1 with another text (replaced)\n"
    with SummaryStore(path) as store:
        assert store.find([bytes.fromhex(B)])[bytes.fromhex(B)].text == "Hates B."


def test_export_writes_lines_alone_to_stdout_and_counts_what_is_damaged_on_stderr(path: Path) -> None:
    damage(path)
    command = [sys.executable, "-m", "recbole_llmtrsr.summarizer", "export", f"--store={path}", "--out=-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line[:42] for line in done.stdout.splitlines()] == [f'{{"key": "{key}"' for key in ("0" * 32, A, C)]
    assert done.stderr == "-: 3 summaries, 1 damaged ones omitted\n"


@pytest.mark.parametrize("command", [["show"], ["count"], ["verify"], ["export", "--out=-"]])
def test_a_missing_store_is_a_fault_and_is_not_made(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.sqlite"
    assert main([*command, f"--store={missing}"]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no summary store at --store={missing}: give the file that a run wrote\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_store_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.sqlite").write_text("hello, this is not a store " * 10)
    assert main(["verify", f"--store={tmp_path / 'x.sqlite'}"]) == 2
    assert "file is not a database" in capsys.readouterr().err


def test_an_unwritable_out_is_a_fault(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", f"--store={path}", f"--out={path}/out.jsonl"]) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot write --out={path}/out.jsonl (")


@pytest.mark.parametrize(
    "arguments", [[], ["look"], ["count"], ["show", "--store=a", "--latest=0"], ["import", "--store=a"]]
)
def test_a_wrong_command_line_prints_its_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m recbole_llmtrsr.summarizer")
