"""Reading tables as rows of texts: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmtrsr.data.prepare.frame_table import FrameTable
from recbole_llmtrsr.data.prepare.raw import read_csv, read_json_lines, require_files
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError, did_you_mean
from recbole_llmtrsr.runtime.screen import Bar

FORMS = (
    ".csv (quoting as in RFC 4180), .tsv (no quoting), .jsonl, .ndjson or .json (one object per line), each also with"
    " .gz, and .parquet"
)
_JSON = (".jsonl", ".ndjson", ".json")


def read_records(
    path: Path | FrameTable, columns: Sequence[str], report: Report, ids: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number (in Parquet and DataFrames: row number), from 1, and the texts of the wanted columns.

    A missing value is the empty text, a list its elements joined with commas. In JSON lines the column ``tags.name``
    joins the ``name`` of all objects of the list ``tags``; a column of ids, ``items.id``, gives one row for every
    object of the list ``items``, with its ``id``, and other columns repeat.

    Args:
        path: the file, whose suffix gives the form, or a DataFrame.
        columns: names, in the order wanted.
        report: has the encoding, and counts the rows and those that are skipped.
        ids: columns that hold ids; a list, an object or a truth value there becomes the empty text.

    Raises:
        UserError: no such file, an unknown form, a column it does not have, too many malformed rows, or pyarrow
            missing.
    """
    if isinstance(path, FrameTable):
        return _frame_records(path, columns, ids, report)
    require_files(path.parent, [path.name], "check the file's name")
    form = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    remedy = f"wanted are {', '.join(columns)}, as the options name them"
    if form == ".csv":
        return read_csv(path, columns, report, remedy)
    if form == ".tsv":
        return read_csv(path, columns, report, remedy, separator="\t", quoted=False)
    if form in _JSON:
        rows = read_json_lines(path, report, columns, remedy, ids)
        return ((number, _texts(row, columns, ids)) for number, row in rows)
    if path.suffix == ".parquet":
        return _parquet_records(path, columns, ids, report, remedy)
    raise UserError(f"the form of {path} is unknown: accepted are {FORMS}")


def as_text(value: object, separator: str = ", ") -> str:
    """A value of JSON or Parquet as text.

    >>> as_text(None), as_text(7), as_text(["a", None, 2.5]), as_text(float("nan"))
    ('', '7', 'a, 2.5', '')
    """
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return separator.join(filter(None, (as_text(part, separator) for part in value)))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _texts(row: Mapping[str, Any], columns: Sequence[str], ids: Sequence[str]) -> list[str]:
    values = ((column, row.get(column)) for column in columns)
    return [
        "" if column in ids and isinstance(value, bool | list | tuple | dict) else as_text(value)
        for column, value in values
    ]


def _parquet_records(
    path: Path, columns: Sequence[str], ids: Sequence[str], report: Report, remedy: str
) -> Iterator[tuple[int, list[str]]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as fault:
        raise UserError(
            f"reading {path} needs pyarrow ({fault}): pip install pyarrow, or save the table as .csv"
        ) from fault
    try:
        with parquet.ParquetFile(path) as file, Bar(total=file.metadata.num_rows, desc=path.name, unit="rows") as bar:
            names = file.schema_arrow.names
            wrong = [column for column in columns if names.count(column) != 1]
            if wrong:
                raise UserError(f"{path} has no column {' and '.join(wrong)}, it has {', '.join(names)}: {remedy}")
            number = 0
            for batch in file.iter_batches(columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    report.row(path.name, list(row.values()))
                    yield number, _texts(row, columns, ids)
                bar.update(batch.num_rows)
    except (OSError, importlib.import_module("pyarrow").ArrowException) as fault:
        raise UserError(f"cannot read {path} ({fault}): write or download it again") from fault
    report.check_lost(path)


def _frame_records(
    table: FrameTable, columns: Sequence[str], ids: Sequence[str], report: Report
) -> Iterator[tuple[int, list[str]]]:
    names = list(table.frame.columns)
    for column in columns:
        if names.count(column) != 1:
            raise UserError(f"{table} must have the column '{column}' once, {_what_it_has(table.frame, column)}")
    values = [_whole_numbers(table.frame[column]) if column in ids else table.frame[column] for column in columns]
    for number, row in enumerate(zip(*values), start=1):
        report.row(table.name, list(row))
        # Lists of texts, such as genres, may be arrays, as in a frame that was read from Parquet.
        plain = (value.tolist() if isinstance(value, np.ndarray) else value for value in row)
        yield number, _texts(dict(zip(columns, plain)), columns, ids)
    report.check_lost(table)


def _what_it_has(frame: pd.DataFrame, column: str) -> str:
    if column in frame.index.names:
        return f"and has '{column}' as its index: call reset_index() on it"
    known = list(map(str, frame.columns))
    return f"it has {', '.join(known) or 'none'}{did_you_mean(column, known)}"


def _whole_numbers(ids: pd.Series[Any]) -> pd.Series[Any]:
    """Ids that pandas made floats of, because one of them is missing, as whole numbers again."""
    known = ids.dropna()
    is_whole = pd.api.types.is_float_dtype(ids) and bool((np.isfinite(known) & (known % 1 == 0)).all())
    return ids.astype("Int64") if is_whole else ids
