"""Reading raw tab-separated files line by line, with a progress bar."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError


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


def read_tsv(path: Path, n_columns: int, report: Report) -> Iterator[tuple[int, list[str]]]:
    r"""Yield line number, from 1, and columns of every well-formed line; the others are reported and skipped.

    Lines end with \n or \r\n, columns at tabs; nothing is quoted. A byte order mark is skipped.

    Raises:
        UserError: the file can not be read.
    """
    try:
        with path.open("rb") as file, tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as bar:
            # Bytes: a text file would also end lines at a lone \r.
            for number, line in enumerate(file, start=1):
                bar.update(len(line))
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                try:
                    columns = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8").split("\t")
                except UnicodeDecodeError:
                    report.fault(path.name, number, "not UTF-8", "line skipped")
                    continue
                if len(columns) != n_columns:
                    report.fault(path.name, number, f"not {n_columns} columns", "line skipped")
                    continue
                yield number, columns
    except OSError as fault:
        raise UserError(f"can not read {path} ({fault}): check its permissions and the disk") from fault
