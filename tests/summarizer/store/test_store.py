"""The summary store: what is put is found, once, by whoever opens the file, and never when it is damaged."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.summarizer.store.store import Record, Speed, SummaryStore

ROOT = Path(__file__).parents[3]
A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))
LIKES = GeneratedText("Likes film noir.", 40, 5, 0.5)
HATES = GeneratedText("Hates westerns, ärgerlich 😀", 7, 3, 0.25, "length")

# A process that claims b and c and then waits for its end.
CLAIMANT = """
import sys, time
from pathlib import Path
from recbole_llmtrsr.summarizer.store.store import SummaryStore
store = SummaryStore(Path(sys.argv[1]))
store.claim([b"b" * 16, b"c" * 16])
print("claimed", flush=True)
time.sleep(60)
"""


def record(key: bytes, answer: GeneratedText, *inputs: str) -> Record:
    return Record(key, "block", answer, inputs)


def put(store: SummaryStore, *records: Record) -> dict[bytes, GeneratedText]:
    return store.put(store.writer_id("extractive", {"version": 1}), records)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "saved" / "summaries.sqlite"


@pytest.fixture
def filled(path: Path) -> Path:
    with SummaryStore(path) as store:
        put(store, record(A, LIKES, "item:i1", "item:i2"), record(B, HATES))
    return path


def claimant(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLAIMANT, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def run_at_once(code: str, *arguments: tuple[str, ...]) -> list[str]:
    """What processes print that wait for each other before they start; all must succeed."""
    # Each tells that it has loaded, and then waits to be told.
    load = "import sys\nfrom recbole_llmtrsr.summarizer.store.store import *\nprint(flush=True)\nsys.stdin.readline()\n"
    code = load + code
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *some], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for some in arguments
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


def claims_in(path: Path) -> int:
    database = sqlite3.connect(path)
    try:
        return int(database.execute("SELECT count(*) FROM claims").fetchone()[0])
    finally:
        database.close()


def behind_its_back(path: Path, statement: str, *values: object) -> None:
    database = sqlite3.connect(path)
    with database:
        assert database.execute(statement, values).rowcount in (1, -1)
    database.close()


# What is put is found.


def test_a_store_opened_again_gives_what_was_put(filled: Path) -> None:
    with SummaryStore(filled) as store:
        assert store.find([A, B, C]) == {A: LIKES, B: HATES}
        assert store.damaged == 0


def test_a_store_in_memory_keeps_answers_and_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SummaryStore(None) as store:
        assert store.claim([A]).mine == [A]
        assert put(store, record(A, LIKES)) == {A: LIKES}
        assert store.claim([A, B]).found == {A: LIKES}
    assert list(tmp_path.iterdir()) == []


def test_an_entry_keeps_its_provenance(filled: Path) -> None:
    with SummaryStore(filled) as store:
        (entry,) = store.records([A])
        made = (entry.writer, entry.created, entry.version)
        assert entry == Record(A, "block", LIKES, ("item:i1", "item:i2"), 0, *made)
        assert store.writers() == {entry.writer: ("extractive", {"version": 1})}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry.created)


def test_more_keys_than_one_statement_takes_are_found(path: Path) -> None:
    keys = [number.to_bytes(16, "big") for number in range(3000)]
    with SummaryStore(path) as store:
        put(store, *(record(key, GeneratedText(key.hex())) for key in keys))
        found = store.find(keys[::-1])
        assert {key: answer.text for key, answer in found.items()} == {key: key.hex() for key in keys}
        assert store.claim(keys).mine == []
        assert store.keys() == keys


def test_the_first_answer_to_a_call_wins(filled: Path) -> None:
    with SummaryStore(filled) as store:
        assert put(store, record(A, HATES), record(C, HATES), record(C, LIKES)) == {A: LIKES, C: HATES}
        assert store.find([A, C]) == {A: LIKES, C: HATES}


def test_a_writer_is_registered_once_and_others_settings_make_another_writer(path: Path) -> None:
    with SummaryStore(path) as store:
        first = store.writer_id("m", {"limit": 5, "model": "é"})
        assert store.writer_id("m", {"model": "é", "limit": 5}) == first
        assert len({first, store.writer_id("m", {"model": "é", "limit": 6}), store.writer_id("n", {})}) == 3
    with SummaryStore(path) as store:
        assert store.writer_id("m", {"limit": 5, "model": "é"}) == first
        assert len(store.writers()) == 3


def test_speed_totals_the_calls_of_the_writers_asked_for(filled: Path) -> None:
    with SummaryStore(filled) as store:
        other = store.writer_id("other", {})
        store.put(other, [record(C, LIKES)])
        first = store.writer_id("extractive", {"version": 1})
        assert store.speed([first]) == Speed(2, 47, 8, 0.75, 1)
        assert store.speed([first, other]) == Speed(3, 87, 13, 1.25, 1)
        assert store.speed([]) == Speed(0, 0, 0, 0.0, 0)


def test_insert_replaces_only_when_told(filled: Path) -> None:
    with SummaryStore(filled) as store:
        entry = Record(A, "block", HATES, (), 0, 1, "2026-01-01T00:00:00+00:00", "9.9")
        assert store.insert([entry]) == {A: LIKES}
        assert store.find([A]) == {A: LIKES}
        assert store.insert([entry], overwrite=True) == {A: LIKES}
        assert list(store.records([A])) == [entry]


# Claims.


def test_claims_tell_what_is_found_what_is_mine_and_what_is_busy(filled: Path) -> None:
    other = claimant(filled)
    with SummaryStore(filled) as store:
        d = b"d" * 16
        claims = store.claim([d, C, A, d])
        assert claims.found == {A: LIKES}
        assert claims.mine == [d]
        assert claims.busy == [C]
        kill(other)


def test_the_claims_of_a_killed_process_are_taken_over(path: Path) -> None:
    with SummaryStore(path) as store:
        other = claimant(path)
        assert store.claim([B, C]).busy == [B, C]
        kill(other)
        assert claims_in(path) == 2
        assert store.claim([C]).mine == [C]
        assert claims_in(path) == 1
        assert len(list(path.with_name("summaries.sqlite.owners").iterdir())) == 1


def test_a_claim_given_back_is_free_for_others(path: Path) -> None:
    with SummaryStore(path) as one, SummaryStore(path) as two:
        one.claim([A, B])
        assert two.claim([A, B]).busy == [A, B]
        two.release([A])  # not its own
        assert two.claim([A]).busy == [A]
        one.release([A])
        assert two.claim([A, B]).mine == [A]
        assert one.claim([B]).mine == [B]


def test_closing_a_store_frees_its_claims_and_leaves_nothing_beside_the_file(path: Path) -> None:
    with SummaryStore(path) as store:
        store.claim([A])
    assert claims_in(path) == 0
    assert [file.name for file in path.parent.iterdir()] == ["summaries.sqlite"]


def test_putting_an_answer_ends_its_claim_and_no_other(path: Path) -> None:
    with SummaryStore(path) as one, SummaryStore(path) as two:
        one.claim([A, B])
        put(one, record(A, LIKES))
        assert claims_in(path) == 1
        claims = two.claim([A, B])
        assert (claims.found, claims.mine, claims.busy) == ({A: LIKES}, [], [B])


def test_two_processes_that_put_the_same_calls_hold_the_same_answers(path: Path) -> None:
    # Both answer every call with a text of their own and report what the store then holds.
    code = """
from pathlib import Path
from recbole_llmtrsr.llm.generators.generation import GeneratedText
held = {}
with SummaryStore(Path(sys.argv[1])) as store:
    writer = store.writer_id("w", {})
    for n in range(60):
        key = n.to_bytes(16, "big")
        held |= store.put(writer, [Record(key, "block", GeneratedText(f"{n} by {sys.argv[2]}"), ())])
print(",".join(answer.text for answer in held.values()))
"""
    one, two = run_at_once(code, (str(path), "one"), (str(path), "two"))
    assert one == two
    assert [text.split()[0] for text in one.split(",")] == [str(n) for n in range(60)]


def test_many_processes_may_make_and_leave_one_store_at_a_time(tmp_path: Path) -> None:
    code = """
import time
from pathlib import Path
start = time.time() // 0.5 * 0.5 + 0.5
for n in range(30):
    time.sleep(max(0, start + n * 0.03 - time.time()))
    with SummaryStore(Path(sys.argv[1]) / f"{n}.sqlite") as store:
        store.claim([bytes(16)])
"""
    run_at_once(code, *[(str(tmp_path),)] * 5)
    assert len(list(tmp_path.iterdir())) == 30


def test_a_lock_met_while_a_new_file_is_made_is_waited_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = ["database is locked"] * 3

    class Refusing(sqlite3.Connection):
        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
            if "journal_mode" in statement and refusals:
                raise sqlite3.OperationalError(refusals.pop())
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *where, **how: connect(*where, factory=Refusing, **how))
    with SummaryStore(path) as store:
        assert put(store, record(A, LIKES)) == {A: LIKES}
    assert refusals == []


# Damage.


DAMAGES = [
    "text = 'Hates film noir.'",
    "text = CAST(x'4cff6b6573' AS TEXT)",  # no UTF-8
    "text = 5",
    "finish = 'length'",
    "new_tokens = 6",
    "seconds = 0.51",
    "inputs = '[]'",
    "writer = 2",
    "checksum = x'00'",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_is_not_served_but_counted_and_put_anew(filled: Path, damage: str) -> None:
    behind_its_back(filled, f"UPDATE summaries SET {damage} WHERE key = ?", A)
    with SummaryStore(filled) as store:
        assert store.find([A, B]) == {B: HATES}
        assert store.damaged == 1
        assert list(store.records([A])) == []
        assert store.claim([A, B]).mine == [A]
        assert store.damaged == 1
        assert put(store, record(A, HATES)) == {A: HATES}
        assert store.find([A]) == {A: HATES}
    with SummaryStore(filled) as store:
        assert store.find([A]) == {A: HATES}
        assert store.damaged == 0


def test_a_flipped_byte_of_the_file_is_not_served(filled: Path) -> None:
    content = filled.read_bytes()
    assert content.count(b"film noir") == 1
    filled.write_bytes(content.replace(b"film noir", b"film nojr"))
    with SummaryStore(filled) as store:
        assert store.find([A, B]) == {B: HATES}
        assert store.damaged == 1


def test_a_damaged_writer_is_told_and_mended_when_it_writes_again(filled: Path) -> None:
    behind_its_back(filled, "UPDATE writers SET settings = '{}'")
    with SummaryStore(filled) as store:
        assert store.writers() == {}
        assert store.check_file() == ["writer 1: its name or settings are damaged"]
        assert store.writer_id("extractive", {"version": 1}) == 1
        assert store.check_file() == []


def spoil_pages(path: Path) -> None:
    """Overwrites some pages of summaries in the middle of the file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 3 * 4096)


def test_a_malformed_file_names_the_remedy_and_still_gives_what_is_readable(path: Path) -> None:
    keys = [(number * 7919).to_bytes(16, "big") for number in range(1000)]
    with SummaryStore(path) as store:
        put(store, *(record(key, GeneratedText(f"{key.hex()} " * 10)) for key in keys))
    spoil_pages(path)
    with SummaryStore(path) as store:
        with pytest.raises(UserError, match=r"damaged; 'python -m recbole_llmtrsr.summarizer verify --store=.*import"):
            store.find(keys)
        assert store.check_file() != []
        readable = list(store.records(store.keys()))
        assert 500 < len(readable) < 1000
        assert all(entry.answer.text == f"{entry.key.hex()} " * 10 for entry in readable)


# Files that are no stores.


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(1, 251)) * 40)


def other_application(path: Path) -> None:
    behind_its_back(path, "CREATE TABLE cookies (name TEXT)")


def other_marked_application(path: Path) -> None:
    behind_its_back(path, "PRAGMA application_id = 7")


def other_version(path: Path) -> None:
    SummaryStore(path).close()
    behind_its_back(path, "PRAGMA user_version = 7")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (garbage, r"summary store .*x\.sqlite: file is not a database: .*choose another file"),
        (other_application, r"x\.sqlite is the database of another program, .*choose another file"),
        (other_marked_application, r"x\.sqlite is the database of another program, .*choose another file"),
        (
            other_version,
            r"x\.sqlite has version 7, but this release reads version 1: export it with the release that wrote it",
        ),
        (Path.mkdir, r"x\.sqlite: unable to open database file: choose a file in a writable folder"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "x.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(UserError, match=message):
        SummaryStore(path)
    assert (path.read_bytes() if path.is_file() else b"") == before
    SummaryStore(tmp_path / "another.sqlite").close()  # the remedy


def test_a_folder_that_cannot_be_made_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose a file in a writable folder"):
        SummaryStore(tmp_path / "file" / "x.sqlite")


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.touch()
    with SummaryStore(path) as store:
        assert put(store, record(A, LIKES)) == {A: LIKES}


# A full disk.


def test_a_full_disk_keeps_what_was_put_and_a_later_run_goes_on(filled: Path) -> None:
    long = [record(bytes([number]) * 16, GeneratedText("long " * 2000)) for number in range(20)]
    with SummaryStore(filled) as store:
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages + 8}")
        store.claim([one.key for one in long])
        put(store, *long[:2])
        with pytest.raises(
            UserError, match=r"disk is full: the summaries written so far are kept; free space and run again"
        ):
            put(store, *long[2:])
        assert set(store.find([A, *(one.key for one in long)])) == {A, long[0].key, long[1].key}
    assert claims_in(filled) == 0
    with SummaryStore(filled) as store:
        assert len(put(store, *long)) == 20
        assert len(store.find([one.key for one in long])) == 20
        assert store.check_file() == []
