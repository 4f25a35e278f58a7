"""Reading raw files line by line, with a progress bar; what is malformed is reported and skipped."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

_BAR_STEP = 1024  # lines between two moves of the bar, which cost more than a short line
_LONGEST_FIELD = 2**20  # characters; a quote that is never closed would take the rest of a file
_NOT_UTF8 = re.compile("[\ud800-\udfff]")


def require_files(source: Path, names: Sequence[str], remedy: str) -> list[Path]:
    """Paths of the files in the source folder.

    Raises:
        UserError: no such folder, or the names of all the files that are not in it.
    """
    if not source.is_dir():
        raise UserError(f"no source folder {source}: {remedy}")
    missing = [name for name in names if not (source / name).is_file()]
    if missing:
        raise UserError(f"no {' and no '.join(missing)} in {source}: {remedy}")
    return [source / name for name in names]


def read_columns(
    path: Path, n_columns: int, report: Report, separator: str = "\t", fallback: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    r"""Yield line number, from 1, and columns of every well-formed line.

    Lines end with \n or \r\n, columns at the separator; nothing is quoted. A byte order mark is skipped.

    Args:
        path: the file; .gz is unpacked on the way.
        n_columns: every line has to have.
        report: told of the lines that are skipped.
        separator: between columns.
        fallback: encoding of lines that are not UTF-8; None takes them for malformed.

    Raises:
        UserError: the file can not be read.
    """
    for number, raw in enumerate(_lines(path), start=1):
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            if fallback is None:
                report.fault(path.name, number, "not UTF-8", "line skipped")
                continue
            text = line.decode(fallback)
        columns = text.split(separator)
        if len(columns) != n_columns:
            report.fault(path.name, number, f"not {n_columns} columns", "line skipped")
            continue
        yield number, columns


def read_csv(
    path: Path, columns: Sequence[str], report: Report, remedy: str, separator: str = ",", quoted: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and the wanted columns of every well-formed row under a header.

    Args:
        path: the file; .gz is unpacked on the way.
        columns: names in the header, in the order wanted.
        report: told of every line that is skipped; a malformed row may have taken several.
        remedy: what to do where a column is missing.
        separator: between columns.
        quoted: fields may be quoted, as RFC 4180 has it, and then hold line ends.

    Raises:
        UserError: the file can not be read, does not have each of the columns once, or has a quote
            that no other closes.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    lines = (line.decode("utf-8", "surrogateescape") for line in _lines(path))
    rows = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)
    try:
        header = next(rows, [])
    except csv.Error as fault:
        raise UserError(f"the first line of {path} is no header ({fault}): {remedy}") from fault
    wrong = [column for column in columns if header.count(column) != 1]
    if wrong:
        raise UserError(
            f"{path} must have the column {' and '.join(wrong)} once, it has {', '.join(header) or 'none'}: {remedy}"
        )
    positions = [header.index(column) for column in columns]
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as fault:
            n_lines = rows.line_num - number + 1
            if "end of data" in str(fault) or ("field larger" in str(fault) and n_lines > 1):
                raise UserError(
                    f"{path}: a quote in the row at line {number:,} is not closed within {n_lines:,} lines ({fault}),"
                    ' which would all be lost: close it or, if it is part of the text, write the field as "a "" b"'
                ) from fault
            wrong_row = f"broken quoting, line end or length ({fault})"
        else:
            if len(row) == len(header):
                values = [row[position] for position in positions]
                if all(value.isascii() or not _NOT_UTF8.search(value) for value in values):
                    yield number, values
                    continue
                wrong_row = "not UTF-8"
            else:
                wrong_row = f"not {len(header)} columns"
        for line in range(number, rows.line_num + 1):
            report.fault(path.name, line, wrong_row, "line skipped")


def read_json_lines(path: Path, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object of every line that holds one.

    Raises:
        UserError: the file can not be read.
    """
    for number, line in enumerate(_lines(path), start=1):
        try:
            content = json.loads(line.decode("utf-8"))
            if b"\\ud" in line or b"\\uD" in line:
                # Half of a surrogate pair can be spelled in JSON, but not be written.
                json.dumps(content, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            yield number, content
        else:
            report.fault(path.name, number, "not a JSON object in UTF-8", "line skipped")


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their ends, as bytes: a text file would also end them at a lone carriage return."""
    try:
        with path.open("rb") as file, tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as bar:
            unpacked = io.BufferedReader(gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file  # type: ignore[type-var]
            for number, line in enumerate(unpacked):
                if number % _BAR_STEP == 0:
                    bar.update(file.tell() - bar.n)
                if number == 0 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise UserError(f"{path} is encoded as UTF-16: save it as UTF-8")
                yield line if number else line.removeprefix(codecs.BOM_UTF8)
            bar.update(file.tell() - bar.n)
    except (OSError, EOFError, zlib.error) as fault:
        raise UserError(
            f"can not read {path} ({fault}): check its permissions and the disk, or download it again"
        ) from fault
