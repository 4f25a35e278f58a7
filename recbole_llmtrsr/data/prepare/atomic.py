"""RecBole's atomic files, written whole or not at all."""

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
# As pandas has them: RecBole takes out the events of users and items called so. [PAD] is its own name for nobody.
_MISSING = frozenset(
    ["", "#N/A", "#NA", "<NA>", "N/A", "NA", "n/a", "NULL", "null", "None", "NaN", "-NaN", "nan", "-nan"]
) | {"1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "[PAD]"}

# Each part begins with a sign of its own, so that the expression never has to try a text in several ways.
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
def whole_set(out: Path, suffixes: Iterable[str]) -> Iterator[dict[str, Path]]:
    """Drafts of the files ``<out>/<name of out>.<suffix>``, to be written by the block.

    The drafts are hidden files beside the final ones, which they replace when the block ends without a fault and all of
    them are on disk. Otherwise they are removed and older files stay as they were.

    Args:
        out: folder, made if missing; RecBole finds a dataset by the name of its folder.
        suffixes: such as "inter".

    Raises:
        UserError: the folder has no name or can not be written.
    """
    suffixes = list(suffixes)
    paths = dict(zip(suffixes, atomic_paths(out, suffixes), strict=True))
    drafts = {suffix: draft_name(path) for suffix, path in paths.items()}
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield drafts
        for draft in drafts.values():
            with draft.open("rb") as file:
                # Without it, a power cut after the renaming could leave the new name on an empty file.
                os.fsync(file.fileno())
        for suffix, draft in drafts.items():
            draft.replace(paths[suffix])
    except OSError as fault:
        raise UserError(
            f"can not write to --out={out} ({fault}): choose a writable folder with enough space"
        ) from fault
    finally:
        for draft in drafts.values():
            _remove(draft)
        if is_new:
            with suppress(OSError):  # it holds the files
                out.rmdir()


@contextmanager
def atomic_tables(drafts: Mapping[str, Path], columns: Mapping[str, Sequence[str]]) -> Iterator[dict[str, AtomicFile]]:
    """Open those of the drafts that are tables.

    Args:
        drafts: suffix -> path, of ``whole_set``.
        columns: suffix, such as "inter" -> header.
    """
    with ExitStack() as stack:
        yield {
            suffix: AtomicFile(stack.enter_context(drafts[suffix].open("w", encoding="utf-8", newline="\n")), header)
            for suffix, header in columns.items()
        }


@contextmanager
def atomic_files(out: Path, columns: Mapping[str, Sequence[str]]) -> Iterator[dict[str, AtomicFile]]:
    """A whole set of tables alone: ``<out>/<name of out>.<suffix>`` for every suffix.

    Raises:
        UserError: the folder has no name or can not be written.
    """
    with whole_set(out, columns) as drafts, atomic_tables(drafts, columns) as files:
        yield files


def atomic_paths(out: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files that RecBole expects in a dataset's folder.

    >>> [path.name for path in atomic_paths(Path("dataset/mind"), ["inter", "item"])]
    ['mind.inter', 'mind.item']
    """
    # Not resolve(): behind a link, RecBole still goes by the name that it was given.
    name = Path(os.path.abspath(out)).name
    if not name:
        raise UserError(f"--out={out} has no name to call the dataset by: choose a folder such as dataset/mind")
    return [out / f"{name}.{suffix}" for suffix in suffixes]


def is_token(text: str) -> bool:
    """Whether a text can be an id that RecBole reads as it stands.

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


def _remove(path: Path) -> None:
    # What prevented the writing may prevent this too, and is the fault to be shown.
    with suppress(OSError):
        path.unlink(missing_ok=True)
