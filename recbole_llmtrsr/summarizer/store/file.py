"""The SQLite file of a summary store: creation, opening, and user errors for its faults."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_llmtrsr.errors import UserError

APPLICATION = int.from_bytes(b"TRSR", "big")
VERSION = 1
BUSY_SECONDS = 60.0  # for one transaction of another process, which takes milliseconds

# Texts are wider than a twentieth of a page, from which on a table without row ids gets slow; claims are narrow.
SCHEMA = (
    """CREATE TABLE writers (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, settings TEXT NOT NULL, digest BLOB NOT NULL UNIQUE)""",
    """CREATE TABLE summaries (
        key BLOB PRIMARY KEY, writer INTEGER NOT NULL, kind TEXT NOT NULL, attempt INTEGER NOT NULL,
        text TEXT NOT NULL, finish TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, new_tokens INTEGER NOT NULL,
        seconds REAL NOT NULL, inputs TEXT NOT NULL, created TEXT NOT NULL, version TEXT NOT NULL,
        checksum BLOB NOT NULL)""",
    "CREATE TABLE claims (key BLOB PRIMARY KEY, owner BLOB NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)


@contextmanager
def file_faults(path: Path | None) -> Iterator[None]:
    """Turn faults of the file and its disk into errors that name the remedy.

    Raises:
        UserError: any fault that SQLite or the system reports for the file.
    """
    try:
        yield
    except sqlite3.DatabaseError as fault:
        # By its words: Python 3.10 does not give SQLite's codes.
        said = str(fault)
        remedy = next((remedy for words, remedy in _REMEDIES.items() if words in said), None)
        if remedy is None:
            raise
        raise UserError(f"summary store {path}: {said}: {remedy.format(path=path)}") from fault
    except OSError as fault:
        raise UserError(f"summary store {path}: {fault}: {_UNWRITABLE}") from fault


_UNWRITABLE = "choose a file in a writable folder"
_DAMAGED = (
    "the file is damaged; 'python -m recbole_llmtrsr.summarizer verify --store={path}' lists the damage, and 'export"
    " --store={path} --out=readable.jsonl' saves the readable summaries; then move the file away and continue with a"
    " new one, into which 'import --source=readable.jsonl' restores them"
)
_REMEDIES = {
    "full": "the summaries written so far are kept; free space and run again, which writes only the missing ones",
    "locked": f"another program has been writing for {BUSY_SECONDS:.0f} s; run again when it has finished",
    "readonly": _UNWRITABLE,
    "unable to open": _UNWRITABLE,
    "not a database": "this is not a summary store, or its first page is destroyed; choose another file",
    "malformed": _DAMAGED,
    "disk I/O error": (
        "the disk is full or failing; the summaries written so far are kept: free space and run again; if the error"
        " recurs, 'python -m recbole_llmtrsr.summarizer verify --store={path}' shows whether the file is damaged"
    ),
}


def open_database(path: Path | None) -> sqlite3.Connection:
    """Open a store, and create it if it does not exist.

    Texts are read as bytes, because damaged ones may not decode, and the checksum is compared first.

    Args:
        path: file of the store, whose folder is created if missing; None for a store in memory.

    Raises:
        UserError: if the file is not a store of this version, or cannot be opened or created.
    """
    with file_faults(path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(database, path)
        except BaseException:
            database.close()
            raise
        database.text_factory = bytes
    return database


def _prepare(database: sqlite3.Connection, path: Path | None) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            empty = _is_empty(database, path)
            # Two processes that switch a new file together would deadlock, so SQLite refuses one immediately.
            database.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as fault:
            if "locked" not in str(fault) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    database.execute("PRAGMA synchronous = NORMAL")
    if empty:
        with database:
            database.execute("BEGIN IMMEDIATE")
            # Another process may have created the tables in the meantime.
            if _is_empty(database, path):
                for statement in SCHEMA:
                    database.execute(statement)


def _is_empty(database: sqlite3.Connection, path: Path | None) -> bool:
    """Whether the database has no tables yet; refuses any content but that of a store of this version."""
    # One statement reads one state, even if another process writes at the same time.
    application, version, n_tables = database.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application == APPLICATION and version != VERSION:
        raise UserError(
            f"summary store {path} has version {version}, but this release reads version {VERSION}: export it with the"
            " release that wrote it and import the export into a new file, or choose another file"
        )
    if application != APPLICATION and (application or version or n_tables):
        raise UserError(f"{path} is the database of another program, not a summary store: choose another file")
    return application == 0
