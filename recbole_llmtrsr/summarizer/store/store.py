"""A content-addressed store of writers' answers, which avoids repeated calls.

The store uses SQLite with a write-ahead log: several processes can share one file, and a killed process loses only
answers that it has not stored yet.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from recbole_llmtrsr import __version__
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.runtime.packing import groups
from recbole_llmtrsr.summarizer.store.file import file_faults, open_database
from recbole_llmtrsr.summarizer.store.owners import Owner
from recbole_llmtrsr.summarizer.store.rows import (
    COLUMNS,
    Claims,
    Record,
    Speed,
    is_sound,
    is_sound_writer,
    record_row,
    row_record,
    writer_row,
)

__all__ = ["Claims", "Record", "Speed", "SummaryStore"]

_CHUNK = 900  # SQLite accepts at least 999 values per statement


class SummaryStore:
    """Stores answers by key. Only one thread may use an instance; other processes can open the same file.

    Args:
        path: the file, created if missing; None keeps everything in the memory of this process.

    Raises:
        UserError: (also by every method) the file is not a store, has another version, is damaged or cannot be written,
            or the disk is full.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._owner = Owner(path.with_name(f"{path.name}.owners") if path is not None else None)
        self._damaged: set[bytes] = set()
        self._database = open_database(path)

    def __enter__(self) -> SummaryStore:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    @property
    def damaged(self) -> int:
        """Number of rows read so far whose checksum does not match; the store never returns them."""
        return len(self._damaged)

    def writer_id(self, name: str, settings: Mapping[str, object]) -> int:
        """Return the number of the writer with these settings, and register it if it is new."""
        row = writer_row(name, settings)
        with self._transaction():
            # The update repairs a damaged row.
            self._database.execute(
                "INSERT INTO writers (name, settings, digest) VALUES (?, ?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET name = excluded.name, settings = excluded.settings",
                row,
            )
            return int(self._database.execute("SELECT id FROM writers WHERE digest = ?", row[2:]).fetchone()[0])

    def writers(self) -> dict[int, tuple[str, Mapping[str, object]]]:
        """Return name and settings of each writer by number, without damaged rows."""
        with file_faults(self.path):
            rows = self._database.execute("SELECT id, name, settings, digest FROM writers").fetchall()
        return {row[0]: (row[1].decode(), json.loads(row[2])) for row in rows if is_sound_writer(row[1:])}

    def find(self, keys: Sequence[bytes]) -> dict[bytes, GeneratedText]:
        """Return the stored answers by key, without keys that have no answer."""
        with file_faults(self.path):
            return {key: record.answer for key, record in self._sound(keys).items()}

    def claim(self, keys: Sequence[bytes]) -> Claims:
        """Claim the calls that are neither stored nor claimed; claims of terminated processes lapse."""
        with self._transaction():
            self._owner.appear()
            owners = [owner for (owner,) in self._database.execute("SELECT DISTINCT owner FROM claims")]
            dead = [(owner,) for owner in owners if not self._owner.is_alive(owner)]
            self._database.executemany("DELETE FROM claims WHERE owner = ?", dead)
            found = {key: record.answer for key, record in self._sound(keys).items()}
            wanted = [key for key in dict.fromkeys(keys) if key not in found]
            taken = dict(self._select("SELECT key, owner FROM claims", wanted))
            busy = [key for key in wanted if taken.get(key, self._owner.id) != self._owner.id]
            mine = [key for key in wanted if taken.get(key, self._owner.id) == self._owner.id]
            self._database.executemany(
                "INSERT OR IGNORE INTO claims VALUES (?, ?)", [(k, self._owner.id) for k in mine]
            )
            return Claims(found, mine, busy)

    def put(self, writer_id: int, records: Sequence[Record]) -> dict[bytes, GeneratedText]:
        """Store answers in one transaction and release their claims.

        Returns:
            The answers that the store now has for the keys; the first answer stored under a key is kept.
        """
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        held = self.insert([replace(r, writer=writer_id, created=created, version=__version__) for r in records])
        now: dict[bytes, GeneratedText] = {}
        for record in records:
            now.setdefault(record.key, held.get(record.key, record.answer))
        return now

    def insert(self, records: Sequence[Record], overwrite: bool = False) -> dict[bytes, GeneratedText]:
        """Store entries unchanged in one transaction and release their claims.

        Args:
            records: the entries; of those with equal keys, the first is stored.
            overwrite: whether to replace existing entries; otherwise only damaged rows are replaced.

        Returns:
            The answers that the store had for the keys before.
        """
        keys = list(dict.fromkeys(record.key for record in records))
        with self._transaction():
            held = {key: record.answer for key, record in self._sound(keys).items()}
            new = {record.key: record for record in reversed(records) if overwrite or record.key not in held}
            rows = [record_row(new[key]) for key in keys if key in new]
            self._database.executemany(f"INSERT OR REPLACE INTO summaries VALUES ({','.join('?' * 13)})", rows)
            self._drop_claims(keys)
        return held

    def release(self, keys: Sequence[bytes]) -> None:
        """Release claims on calls without an answer."""
        with self._transaction():
            self._drop_claims(keys)

    def speed(self, writer_ids: Sequence[int]) -> Speed:
        """Return totals over the calls of some writers."""
        parts = [astuple(part) for (writer, _), part in self.speeds().items() if writer in writer_ids]
        return Speed(*map(sum, zip(*parts)))

    def speeds(self) -> dict[tuple[int, str], Speed]:
        """Return totals by number of the writer and kind, sorted."""
        with file_faults(self.path):
            rows = self._database.execute(
                "SELECT writer, kind, count(*), sum(prompt_tokens), sum(new_tokens), sum(seconds),"
                " sum(finish = 'length') FROM summaries GROUP BY writer, kind ORDER BY writer, kind"
            ).fetchall()
        return {(row[0], row[1].decode(errors="replace")): Speed(*row[2:]) for row in rows}

    def keys(self, first: bytes = b"", last: bytes = b"\xff" * 16) -> list[bytes]:
        """Return all readable keys between two keys, in ascending order."""
        found: set[bytes] = set()
        for order in ("ASC", "DESC"):
            # Reads from both ends to reach all rows outside of damaged pages.
            with suppress(sqlite3.DatabaseError):
                for (key,) in self._database.execute(
                    f"SELECT key FROM summaries WHERE key BETWEEN ? AND ? ORDER BY key {order}", (first, last)
                ):
                    found.add(key)
                break
        return sorted(found)

    def latest(self, n: int) -> list[bytes]:
        """Return the keys of the n latest rows, newest first."""
        with file_faults(self.path):
            return [
                key for (key,) in self._database.execute(f"SELECT key FROM summaries ORDER BY rowid DESC LIMIT {n}")
            ]

    def records(self, keys: Sequence[bytes]) -> Iterator[Record]:
        """Yield the undamaged entries of some keys, in their order."""
        for chunk in groups(keys, _CHUNK):
            found: dict[bytes, Record] = {}
            try:
                found = self._sound(chunk)
            except sqlite3.DatabaseError:
                for key in chunk:
                    with suppress(sqlite3.DatabaseError):
                        found |= self._sound([key])
            yield from (found[key] for key in chunk if key in found)

    def check_file(self) -> list[str]:
        """Return the faults that SQLite finds in the file, and damaged writers; empty if there are none."""
        try:
            said = [text.decode(errors="replace") for (text,) in self._database.execute("PRAGMA integrity_check")]
            numbers = [number for (number,) in self._database.execute("SELECT id FROM writers")]
            sound = self.writers()
        except (sqlite3.DatabaseError, UserError) as fault:
            return [str(fault)]
        wrong = [f"writer {number}: its name or settings are damaged" for number in numbers if number not in sound]
        return [text for text in said if text != "ok"] + wrong

    def close(self) -> None:
        """Release all claims and close the file."""
        try:
            if self._owner.has_appeared:
                # If this fails, the claims lapse anyway when the owner's lock is released.
                with suppress(UserError, sqlite3.DatabaseError), self._transaction():
                    self._database.execute("DELETE FROM claims WHERE owner = ?", (self._owner.id,))
                    self._owner.leave()
        finally:
            with suppress(OSError):
                self._owner.leave()
            self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with file_faults(self.path), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            yield

    def _drop_claims(self, keys: Iterable[bytes]) -> None:
        rows = [(key, self._owner.id) for key in keys]
        self._database.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", rows)

    def _sound(self, keys: Sequence[bytes]) -> dict[bytes, Record]:
        found = {}
        for row in self._select(f"SELECT {COLUMNS}, checksum FROM summaries", keys):
            if is_sound(row):
                found[row[0]] = row_record(row)
            else:
                self._damaged.add(row[0])
        return found

    def _select(self, query: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        for chunk in groups(keys, _CHUNK):
            marks = ",".join("?" * len(chunk))
            yield from self._database.execute(f"{query} WHERE key IN ({marks})", chunk).fetchall()
