"""Reading raw files line by line, with a progress bar; malformed lines are reported and skipped."""

from __future__ import annotations

import ast
import codecs
import csv
import gzip
import io
import json
import re
import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.screen import Bar

_BAR_STEP = 1024  # lines between two moves of the bar, which cost more than a short line
_LONGEST_FIELD = 2**20  # characters; a quote that is never closed would take the rest of a file
_LONGEST_LINE = 2**24  # bytes
_NOT_DECODED = re.compile("[\ud800-\udfff]")
_FORMS = (  # that are no lines of text, by their first bytes
    (codecs.BOM_UTF16_LE, "is encoded as UTF-16: save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "is encoded as UTF-16: save it as UTF-8"),
    (b"\x1f\x8b", "is packed with gzip: add .gz to its name"),
    (b"PK\x03\x04", "is a zip archive or a spreadsheet: unpack it, or save it as text"),
)


def require_files(source: Path, names: Sequence[str], remedy: str) -> list[Path]:
    """Paths of the files in the source folder.

    Raises:
        UserError: no such folder, or the names of all the files that are not in it.
    """
    if not source.is_dir():
        raise UserError(f"no source folder {source}: {remedy}")
    folders = [name for name in names if (source / name).is_dir()]
    if folders:
        raise UserError(f"{' and '.join(folders)} in {source} must be a file, and is a folder: {remedy}")
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
        n_columns: of every well-formed line.
        report: has the encoding, and counts the lines and those that are skipped.
        separator: between columns.
        fallback: encoding of lines that the report's cannot decode; None counts them as malformed.

    Raises:
        UserError: the file cannot be read, or too many of its lines are malformed.
    """
    for number, raw in enumerate(_lines(path, report), start=1):
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = line.decode(report.encoding)
        except UnicodeDecodeError:
            if fallback is None:
                _skip(path, number, _undecodable(report), line, report)
                continue
            text = line.decode(fallback)
        columns = text.split(separator)
        if len(columns) != n_columns:
            _skip(path, number, f"not {n_columns} columns", line, report)
            continue
        report.row(path.name, line)
        yield number, columns
    report.check_lost(path)


def read_csv(
    path: Path, columns: Sequence[str], report: Report, remedy: str, separator: str = ",", quoted: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and the wanted columns of every well-formed row under a header.

    Args:
        path: the file; .gz is unpacked on the way.
        columns: names in the header, in the order wanted.
        report: has the encoding, and counts the lines and those that are skipped; a malformed row may span several.
        remedy: what to do where a column is missing.
        separator: between columns.
        quoted: fields may be quoted as in RFC 4180, and then hold line ends.

    Raises:
        UserError: the file cannot be read, does not have each of the columns once, has a quote that no other
            closes, or too many of its lines are malformed.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    latest = ""

    def lines() -> Iterator[str]:
        nonlocal latest
        for line in _lines(path, report):
            latest = line.decode(report.encoding, "surrogateescape")
            yield latest

    rows = csv.reader(
        lines(), delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
    )
    try:
        header = next(rows, [])
    except csv.Error as fault:
        raise UserError(f"the first line of {path} is no header ({fault}): {remedy}") from fault
    wrong = [column for column in columns if header.count(column) != 1]
    if wrong:
        raise UserError(
            f"{path} must have the column {' and '.join(wrong)} once, it has {', '.join(header) or 'none'}"
            f"{_hint(header)}: {remedy}"
        )
    positions = [header.index(column) for column in columns]
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
            wrong_row = "" if len(row) == len(header) else f"not {len(header)} columns"
        except StopIteration:
            report.check_lost(path)
            return
        except csv.Error as fault:
            n_lines = rows.line_num - number + 1
            if "end of data" in str(fault) or ("field larger" in str(fault) and n_lines > 1):
                raise UserError(
                    f"{path}: a quote in the row at line {number:,} is not closed within {n_lines:,} lines ({fault}),"
                    ' which would all be lost: close it or, if it is part of the text, write the field as "a "" b"'
                ) from fault
            wrong_row, row = f"broken quoting, line end or length ({fault})", [latest]
        values = [] if wrong_row else [row[position] for position in positions]
        if any(not value.isascii() and _NOT_DECODED.search(value) for value in values):
            wrong_row = _undecodable(report)
        if wrong_row:
            for line in range(number, rows.line_num + 1):
                _skip(path, line, wrong_row, row, report)
        else:
            report.row(path.name, row)
            yield number, values


def read_json_lines(
    path: Path, report: Report, columns: Sequence[str] = (), remedy: str = "", ids: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object of every line that holds one, in JSON or as Python prints a dictionary.

    Args:
        path: the file; .gz is unpacked on the way.
        report: has the encoding, and counts the lines and those that are skipped.
        columns: keys that some line must have; ``tags.name`` is the list of that key's values in a list of objects.
        remedy: what to do where no line has one.
        ids: columns that hold ids; for ``items.id`` each object of the list is yielded alone. A line whose list is
            empty yields nothing and is counted in the report's notes.

    Raises:
        UserError: the file cannot be read, is one JSON array, lacks a column, or too many of its lines are malformed.
    """
    outer = next((column.split(".")[0] for column in ids if "." in column), None)
    lists = {column.split(".")[0] for column in columns if "." in column} - {outer}
    never_seen, known = set(columns), dict[str, None]()
    for number, line in enumerate(_lines(path, report), start=1):
        if number == 1 and line.lstrip().startswith(b"["):
            raise UserError(
                f"{path} is a JSON array (it begins with '['): save one object per line, as"
                f" jq -c '.[]' {path.name} > {path.name.split('.')[0]}.jsonl does"
            )
        try:
            text = line.decode(report.encoding)
        except UnicodeDecodeError:
            _skip(path, number, _undecodable(report), line, report)
            continue
        content = _json_object(text)
        if content is None and (content := _python_object(text)) is not None:
            report.notes[f"{path.name}: lines that are Python dictionaries, not JSON (read)"] += 1
        if content is None:
            _skip(path, number, "not a JSON object", line.strip(), report)
            continue
        content = _joined(content, lists)
        if outer is not None and content.get(outer) == []:
            report.notes[f"{path.name}: lines without {outer}"] += 1
        for row in [content] if outer is None else _unpacked(content, outer):
            if never_seen:
                never_seen.difference_update(row)
                known.update(dict.fromkeys(row))
            report.row(path.name, line)
            yield number, row
    if never_seen and known:
        raise UserError(f"no line of {path} has {' and '.join(sorted(never_seen))}, only {', '.join(known)}: {remedy}")
    report.check_lost(path)


def _unpacked(content: dict[str, Any], outer: str) -> Iterator[dict[str, Any]]:
    """One object for every object of a list, whose keys get the list's as prefix; the whole where there is no list.

    >>> list(_unpacked({"u": 1, "items": [{"id": 7}, {"id": 8}]}, "items"))
    [{'u': 1, 'items.id': 7}, {'u': 1, 'items.id': 8}]
    """
    parts = content.get(outer)
    if not isinstance(parts, list):
        yield content
        return
    shared = {key: value for key, value in content.items() if key != outer}
    for part in parts:
        inner = part if isinstance(part, dict) else {}
        yield {**shared, **{f"{outer}.{key}": value for key, value in inner.items()}}


def _joined(content: dict[str, Any], lists: Collection[str]) -> dict[str, Any]:
    """The object, and for every key in a list of objects the list of its values.

    >>> _joined({"id": 7, "tags": [{"name": "oak"}, {"name": "old"}]}, ["tags"])["tags.name"]
    ['oak', 'old']
    """
    values: dict[str, list[Any]] = {}
    for outer in lists:
        parts = content.get(outer)
        for part in parts if isinstance(parts, list) else ():
            for key, value in part.items() if isinstance(part, dict) else ():
                values.setdefault(f"{outer}.{key}", []).append(value)
    return {**content, **values}


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            # JSON can spell half of a surrogate pair, which no encoding can write.
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _python_object(text: str) -> dict[str, Any] | None:
    """A printed dictionary, as in Amazon's metadata of 2014 and Steam's files; None if JSON could not hold it."""
    if not text.startswith("{") or len(text) > _LONGEST_FIELD:  # the parser takes up to 500 bytes a character
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes that escape nothing
            content = ast.literal_eval(text)
        return _json_object(json.dumps(content, ensure_ascii=False).encode().decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _skip(path: Path, number: int, wrong: str, row: object, report: Report) -> None:
    """Report a line that is skipped; a blank one is no loss."""
    if row:
        report.row(path.name, row)
    report.fault(path.name, number, wrong, "line skipped", lost="rows" if row else None)


def _undecodable(report: Report) -> str:
    return f"not {report.encoding.upper()}, name another --encoding"


def _hint(header: Sequence[str]) -> str:
    """The likely fault of a header that lacks a column.

    >>> _hint(["user;item"]), _hint(["user", " item"])
    (", which ';' seems to separate", ', some with blanks around them')
    """
    if any(name != name.strip() for name in header):
        return ", some with blanks around them"
    found = next((sign for sign in ";\t,|" if len(header) == 1 and sign in header[0]), None)
    return f", which {found!r} seems to separate" if found else ""


def _lines(path: Path, report: Report) -> Iterator[bytes]:
    """Lines with their ends, as bytes: a text file would also end them at a lone carriage return."""
    _check_encoding(report.encoding)
    try:
        with path.open("rb") as file, Bar(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as bar:
            unpacked = io.BufferedReader(gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file  # type: ignore[type-var]
            for number, line in enumerate(iter(partial(unpacked.readline, _LONGEST_LINE + 1), b"")):
                if number % _BAR_STEP == 0:
                    bar.update(file.tell() - bar.n)
                if number == 0 and (form := next((form for sign, form in _FORMS if line.startswith(sign)), "")):
                    raise UserError(f"{path} {form}")
                if len(line) > _LONGEST_LINE:
                    raise UserError(
                        f"line {number + 1:,} of {path} is longer than {_LONGEST_LINE // 2**20} MiB (it begins"
                        f" {line[:40]!r}): write one row per line"
                    )
                yield line if number else line.removeprefix(codecs.BOM_UTF8)
            bar.update(file.tell() - bar.n)
    except (OSError, EOFError, zlib.error) as fault:
        raise UserError(
            f"cannot read {path} ({fault}): check its permissions and the disk, or download it again"
        ) from fault


def _check_encoding(encoding: str) -> None:
    """Refuse encodings in which a line end or a separator is not the byte it is in ASCII."""
    try:
        is_fit = "\n\r\t,".encode(encoding).endswith(b"\n\r\t,")
    except (LookupError, UnicodeError):
        is_fit = False
    if not is_fit:
        raise UserError(
            f"--encoding={encoding} is not known, or does not write line ends as ASCII does: name utf-8, latin-1,"
            " cp1252, shift_jis or the like, or save the files as UTF-8"
        )
