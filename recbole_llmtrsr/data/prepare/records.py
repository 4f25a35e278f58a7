"""Reading tables as rows of texts: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recbole_llmtrsr.data.prepare.raw import read_csv, read_json_lines, require_files
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

FORMS = (
    ".csv (quoting as in RFC 4180), .tsv (no quoting), .jsonl, .ndjson or .json (one object per line), each also with"
    " .gz, and .parquet"
)
_JSON = (".jsonl", ".ndjson", ".json")


def read_records(
    path: Path, columns: Sequence[str], report: Report, ids: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number (in Parquet: row number), from 1, and the texts of the wanted columns.

    A missing value is the empty text, a list its elements joined with commas. In JSON lines the column ``tags.name``
    joins the ``name`` of all objects of the list ``tags``; a column of ids, ``items.id``, gives one row for every
    object of the list ``items``, with its ``id``, and other columns repeat.

    Args:
        path: the file; its suffix gives the form.
        columns: names, in the order wanted.
        report: has the encoding, and counts the rows and those that are skipped.
        ids: columns that hold ids; a list, an object or a truth value there becomes the empty text.

    Raises:
        UserError: no such file, an unknown form, a column it does not have, too many malformed rows, or pyarrow
            missing.
    """
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
    if value is None or value != value:
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
        with parquet.ParquetFile(path) as file, tqdm(total=file.metadata.num_rows, desc=path.name, unit="rows") as bar:
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
        raise UserError(f"can not read {path} ({fault}): write or download it again") from fault
    report.check_lost(path)
