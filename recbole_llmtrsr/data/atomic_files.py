"""Checks of an .inter file before RecBole reads it; messages name the line."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_llmtrsr.errors import UserError

_TYPES = ("token", "token_seq", "float", "float_seq")
_N_NAMED = 5  # lines that a message lists


def header_fault(path: Path, columns: tuple[str, ...], separator: str, encoding: str) -> str | None:
    """Describe an error in the header of an atomic file that must have these columns; None if it is correct."""
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            line = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError, LookupError) as error:
        return f"{path} cannot be read ({error}): save it as UTF-8, or set encoding to the file's encoding"
    if not line:
        return f"{path} has no header: its first line must give name:type for every column, separated by {separator!r}"
    cells = [cell.rsplit(":", 1) for cell in line.split(separator)]
    odd = [":".join(cell) for cell in cells if len(cell) != 2 or cell[1] not in _TYPES or ":" in cell[0]]
    if odd:
        return (
            f"{path}: its first line must give name:type for every column, separated by {separator!r}"
            f" (field_separator), where type is one of {', '.join(_TYPES)}; got {odd[0][:80]!r}"
        )
    names = [cell[0] for cell in cells]
    missing = [column for column in columns if column not in names]
    if missing:
        found = ", ".join(names)
        return f"{path} has no column {' or '.join(missing)}; its columns are {found}: rename one, or set the option"
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"{path} has two columns {', '.join(twice)}: rename one" if twice else None


def check_lines(path: Path, separator: str, encoding: str) -> None:
    """Refuse lines with surplus columns, which pandas would drop, and words in columns of numbers.

    Raises:
        UserError: with the first such line.
    """
    with path.open(encoding=encoding, newline="\n") as file:
        header = file.readline().rstrip("\r\n").split(separator)
        floats = [place for place, cell in enumerate(header) if cell.endswith(":float")]
        for number, line in enumerate(file, start=2):
            cells = line.rstrip("\r\n").split(separator)
            if len(cells) > len(header):
                raise UserError(
                    f"{path}, line {number} has {len(cells)} columns, but the header {len(header)}: remove the surplus"
                )
            for place in floats:
                if place < len(cells) and not _is_number(cells[place]):
                    name = header[place].rsplit(":", 1)[0]
                    raise UserError(f"{path}, line {number}: {name} must be a number, got {cells[place][:40]!r}")


def check_events(frame: pd.DataFrame, path: Path, time_column: str | None) -> None:
    """Refuse events without a time, to which RecBole would assign the mean; warn of other missing numbers.

    Args:
        frame: all lines of the file, in their order.
        path: of the file.
        time_column: column by which events are ordered; None, or a column that is not loaded, is not checked.

    Raises:
        UserError: with the first lines without a time.
    """
    for name in frame.columns:
        if not pd.api.types.is_float_dtype(frame[name]):
            continue
        lines = np.flatnonzero(~np.isfinite(frame[name].to_numpy())) + 2
        if not len(lines):
            continue
        first = ", ".join(map(str, lines[:_N_NAMED])) + (" ..." if len(lines) > _N_NAMED else "")
        fault = f"{path}: {len(lines):,} of {len(frame):,} lines have no number as {name} (line {first})"
        if name == time_column:
            raise UserError(f"{fault}, so their position in a history is unknown: complete or remove these lines")
        getLogger().warning(f"{fault}; RecBole replaces them by the mean of the others")


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True
