"""Candidate files: lists to rank, with the tokens of the user's files, to save, import and export candidate sets.

A row is one list: a user after some number of events, the items chosen next (positives), and the items to rank them
against (negatives). There are two equivalent formats: ``.npz`` with the arrays of ``CandidateFile`` and their digest,
and ``.jsonl`` with one row per line.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.candidates.candidate_checks import KINDS, TEXTS, faults
from recbole_llmtrsr.data.candidates.candidate_lines import Row, parsed, written
from recbole_llmtrsr.data.tokens import Tokens, as_tokens, packed, ranked, unpacked
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import atomic_write


@dataclass(frozen=True, eq=False)
class CandidateFile:
    """Lists of any length, each with one or several positives; validated on construction.

    Rows are sorted by user and number of events, and the items of a row by token, so that equal sets have equal arrays
    and an item's position in a row carries no information.

    Attributes:
        users: token of each row's user. [n_rows]
        n_events: number of the user's events before the target; with the user, it identifies the row. [n_rows]
        tokens: the items that occur, each once, sorted. [n_tokens]
        offsets: start of each row in ``items``, and the end of the last row. [n_rows + 1]
        items: index into ``tokens``. [offsets[-1]]
        is_positive: whether the user chose the item next. [offsets[-1]]

    Raises:
        UserError: arrays of the wrong type or length, duplicate rows or tokens, an item twice in a row, a row without
            a positive, or a negative number of events.
    """

    users: Tokens
    n_events: npt.NDArray[np.int64]
    tokens: Tokens
    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    is_positive: npt.NDArray[np.bool_]

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> CandidateFile:
        """Build from a stream of (user, number of events before, positives, negatives)."""
        users: list[str] = []
        n_events, lengths, items, labels = array("q"), array("q", [0]), array("i"), array("b")
        numbers: dict[str, int] = {}
        for user, n, positives, negatives in rows:
            users.append(user)
            n_events.append(n)
            lengths.append(len(positives) + len(negatives))
            items.extend(numbers.setdefault(token, len(numbers)) for token in (*positives, *negatives))
            labels.extend([1] * len(positives) + [0] * len(negatives))
        return cls(
            as_tokens(users),
            np.array(n_events, dtype=np.int64),
            as_tokens(list(numbers)),
            np.cumsum(np.array(lengths, dtype=np.int64)),
            np.array(items, dtype=np.int32),
            np.array(labels, dtype=np.bool_),
        )

    def __post_init__(self) -> None:
        found = faults(self._arrays())
        if found:
            raise UserError(found)
        users = as_tokens(self.users)
        order = np.lexsort((self.n_events, ranked(users)[1]))
        tokens, ranks = ranked(as_tokens(self.tokens))
        used, ranks = np.unique(ranks[self.items], return_inverse=True)
        lengths = np.diff(self.offsets)
        by_token = np.lexsort((ranks, np.repeat(np.argsort(order), lengths)))
        ordered = {
            "users": users[order],
            "n_events": self.n_events[order].astype(np.int64),
            "tokens": tokens[used],
            "offsets": np.r_[0, np.cumsum(lengths[order])].astype(np.int64),
            "items": ranks[by_token].astype(np.int32),
            "is_positive": self.is_positive[by_token],
        }
        for name, values in ordered.items():
            object.__setattr__(self, name, values)

    def _arrays(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows with their tokens, independent of the order in which they were given."""
        hasher = hashlib.sha256(json.dumps([self.users.tolist(), self.tokens.tolist()]).encode())
        for numbers in (self.n_events, self.offsets, self.items, self.is_positive):
            hasher.update(numbers.astype("<i8").tobytes())
        return hasher.hexdigest()

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of items of each row, including positives. [n_rows]"""
        return np.diff(self.offsets)

    @property
    def row_of_item(self) -> npt.NDArray[np.int64]:
        """Index of each item's row. [offsets[-1]]"""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def n_positives(self) -> npt.NDArray[np.int64]:
        """Number of positives of each row. [n_rows]"""
        return np.bincount(self.row_of_item[self.is_positive], minlength=len(self))

    def rows(self) -> Iterator[Row]:
        """(user, number of events before, positives, negatives) of every row."""
        for i, user in enumerate(self.users.tolist()):
            row = slice(self.offsets[i], self.offsets[i + 1])
            tokens, chosen = self.tokens[self.items[row]], self.is_positive[row]
            yield user, int(self.n_events[i]), tokens[chosen].tolist(), tokens[~chosen].tolist()

    def select(self, rows: npt.NDArray[np.int64], keep: npt.NDArray[np.bool_] | None = None) -> CandidateFile:
        """Select rows.

        Args:
            rows: indices of the rows.
            keep: mask of the items to keep; None keeps all. [offsets[-1]]
        """
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        where = np.arange(lengths.sum()) + np.repeat(self.offsets[rows] - (ends - lengths), lengths)
        kept = np.ones(len(where), dtype=bool) if keep is None else keep[where]
        offsets = np.r_[0, np.cumsum(kept)][np.r_[0, ends]]
        where = where[kept]
        return CandidateFile(
            self.users[rows], self.n_events[rows], self.tokens, offsets, self.items[where], self.is_positive[where]
        )


def read_candidate_file(path: Path) -> CandidateFile:
    """Read and validate a candidate file, .npz or .jsonl, without executing any code in it.

    Raises:
        UserError: the file is missing, has another format or an invalid row, or was changed since it was written.
    """
    if path.suffix not in (".npz", ".jsonl"):
        raise UserError(f"candidate file {path} has an unknown format: its name must end in .npz or .jsonl")
    if not path.is_file():
        raise UserError(f"there is no candidate file {path}: give the path of a .npz or .jsonl file")
    try:
        if path.suffix == ".npz":
            return _from_arrays(path)
        with path.open("rb") as lines:
            return CandidateFile.from_rows(parsed(lines))
    except UserError as error:
        raise UserError([f"candidate file {path}: {fault}" for fault in error.faults]) from error
    except OSError as error:
        raise UserError(f"candidate file {path} cannot be read: {error.strerror or error}") from error


def write_candidate_file(path: Path, file: CandidateFile) -> None:
    """Write atomically, as JSON lines if the name ends in .jsonl, else as .npz; raises a UserError on failure."""
    try:
        with atomic_write(path) as out:
            if path.suffix == ".jsonl":
                out.writelines(written(file.rows()))
            else:
                arrays: dict[str, Any] = {}
                for name, array in file._arrays().items():
                    arrays |= packed(name, array) if name in TEXTS else {name: array}
                np.savez_compressed(out, digest=np.array(file.digest), **arrays)
    except OSError as error:
        raise UserError(
            f"candidate file {path} cannot be written: {error.strerror or error}; choose a writable folder"
        ) from error


def _from_arrays(path: Path) -> CandidateFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (*KINDS, "digest") if name not in TEXTS}
            arrays |= {name: unpacked(name, archive) for name in TEXTS}
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"cannot be read ({error}): make or copy it again") from error
    digest = str(arrays.pop("digest"))
    file = CandidateFile(**arrays)
    if file.digest != digest:
        raise UserError(
            f"was changed since it was written: its rows have the hash {file.digest[:12]}, but it states {digest[:12]};"
            " make or copy it again, or save changed rows as .jsonl"
        )
    return file
