"""RecBole's atomic files, written atomically."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import draft_name

BAD_ID = "not an id that RecBole keeps (empty, NA, nan, null, None..., or with a tab, line end or control character)"
# Control characters, surrogates, line and paragraph separators; blanks of any kind are none of these.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Missing values to pandas: RecBole drops the events of users and items with these names. [PAD] is RecBole's padding.
_MISSING = frozenset(
    ["", "#N/A", "#NA", "<NA>", "N/A", "NA", "n/a", "NULL", "null", "None", "NaN", "-NaN", "nan", "-nan"]
) | {"1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "[PAD]"}

# No two parts begin with the same character, so that the expression never backtracks.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class AtomicFile:
    """A tab-separated file under a ``name:type`` header.

    Args:
        file: open for writing.
        columns: header, such as ``("item_id:token", "title:token_seq")``.
    """

    def __init__(self, file: TextIO, columns: Sequence[str]) -> None:
        self._file = file
        self._n_columns = len(columns)
        self.write(*columns)

    def write(self, *values: str) -> None:
        """Append one row; the values are one-line texts (``one_line``), one per column."""
        if len(values) != self._n_columns:
            raise ValueError(f"a row of {self._n_columns} columns is needed, got {len(values)}: {values}")
        self._file.write("\t".join(values) + "\n")


@contextmanager
def atomic_files(
    out: Path, columns: Mapping[str, Sequence[str]], others: Sequence[str] = ()
) -> Iterator[tuple[dict[str, AtomicFile], dict[str, Path]]]:
    """Drafts of the files ``<out>/<name of out>.<suffix>``, to be written by the block: open tables, and other paths.

    The drafts are hidden files beside the final ones, which they replace when the block ends without a fault and all of
    them are on disk. Otherwise they are removed and older files stay as they were.

    Args:
        out: folder, made if missing; RecBole finds a dataset by the name of its folder.
        columns: suffix of a table, such as "inter" -> header.
        others: suffixes of files that are no tables.

    Raises:
        UserError: the folder has no name or cannot be written.
    """
    paths = dict(zip([*columns, *others], atomic_paths(out, [*columns, *others]), strict=True))
    drafts = {suffix: draft_name(path) for suffix, path in paths.items()}
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            opened = {s: stack.enter_context(drafts[s].open("w", encoding="utf-8", newline="\n")) for s in columns}
            tables = {suffix: AtomicFile(file, columns[suffix]) for suffix, file in opened.items()}
            yield tables, {suffix: drafts[suffix] for suffix in others}
        for draft in drafts.values():
            with draft.open("rb") as file:
                # Without it, a power cut after the renaming could leave the new name on an empty file.
                os.fsync(file.fileno())
        for suffix, draft in drafts.items():
            draft.replace(paths[suffix])
    except OSError as fault:
        raise UserError(f"cannot write to --out={out} ({fault}): choose a writable folder with enough space") from fault
    finally:
        for draft in drafts.values():
            with suppress(OSError):  # what prevented the writing may prevent this too, and is the fault to be shown
                draft.unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):  # it holds the files
                out.rmdir()


def atomic_paths(out: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files that RecBole expects in a dataset's folder.

    >>> [path.name for path in atomic_paths(Path("dataset/mind"), ["inter", "item"])]
    ['mind.inter', 'mind.item']
    """
    # Not resolve(): RecBole uses the name of a link, not of its target.
    name = Path(os.path.abspath(out)).name
    if not name:
        raise UserError(f"--out={out} has no name to call the dataset by: choose a folder such as dataset/mind")
    return [out / f"{name}.{suffix}" for suffix in suffixes]


def is_token(text: str) -> bool:
    """Whether a text can be an id that RecBole reads unchanged.

    >>> is_token("Chaos Syren"), is_token(" 01"), is_token("a\\tb"), is_token("NA")
    (True, True, False, False)
    """
    return text not in _MISSING and not _UNFIT.search(text)


def is_list_token(text: str) -> bool:
    """Whether a text can be an id where blanks separate ids, as in MIND's histories."""
    return is_token(text) and text.split() == [text]


def is_number(text: str) -> bool:
    """Whether a text can be a value of a float column; Python reads more, such as 1_000, than pandas does."""
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))
