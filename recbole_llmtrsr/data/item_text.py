"""Item texts, read from the .item file without loss and independently of RecBole's id maps.

RecBole reads text columns as token sequences: it splits them into words, maps the words to ids, and interprets quotes
that the atomic format does not define. A language model needs the original text.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_llmtrsr.errors import UserError, did_you_mean
from recbole_llmtrsr.errors import one_line as one_line  # others import it from here

PLACEHOLDER = "no text available"


@dataclass(frozen=True)
class Item:
    """One item's text columns.

    Attributes:
        fields: (column, value) pairs that are not empty, each value on one line.
        line: the text a prompt shows, on one line.
    """

    fields: tuple[tuple[str, str], ...]
    line: str


@dataclass(frozen=True)
class ItemText:
    """Item texts by token; items without text have a placeholder.

    Attributes:
        columns: text columns, in the order in which they are written.
        items: token -> item.
        labels: whether each value follows its column's name.
        ragged_lines: numbers of lines with more columns than the header; the surplus is joined to the last column.
        repeated_lines: numbers of lines that repeat the id of an earlier line; they are skipped, as in RecBole.
    """

    columns: tuple[str, ...]
    items: Mapping[str, Item]
    labels: bool = True
    ragged_lines: tuple[int, ...] = ()
    repeated_lines: tuple[int, ...] = ()

    @classmethod
    def from_rows(cls, columns: Sequence[str], rows: Mapping[str, Sequence[str]], labels: bool = True) -> ItemText:
        """Build from column values by item token.

        >>> ItemText.from_rows(["title", "year"], {"1": ["Toy  Story", "1995"], "2": ["", ""]})["1"].line
        'title: Toy Story; year: 1995'
        """
        return cls(tuple(columns), {token: _item(columns, values, labels) for token, values in rows.items()}, labels)

    def __getitem__(self, token: str) -> Item:
        """The item, or the placeholder if the file has no row for it or only empty columns."""
        item = self.items.get(token)
        return item if item is not None and item.fields else Item((), PLACEHOLDER)

    def without_text(self, tokens: Sequence[str]) -> list[str]:
        """The tokens whose item has no text."""
        return [token for token in tokens if token not in self.items or not self.items[token].fields]


# Minimum share of items with a text, and of events whose user and item have a row. Below it, the files do not belong
# together, or prompts would consist of placeholders.
LEAST_SHARE = 0.05


def check_coverage(text: ItemText, tokens: Sequence[str], without: Sequence[str], what: str, option: str) -> None:
    """Refuse a catalogue in which hardly any item has what a run needs.

    Args:
        text: texts of the .item file.
        tokens: tokens of all items.
        without: tokens of the items that lack it.
        what: what the run needs, such as 'a text'.
        option: option that names the columns.

    Raises:
        UserError: the ids of the files do not match (with an id of each), or the columns are empty.
    """
    if not tokens or len(tokens) - len(without) >= LEAST_SHARE * len(tokens):
        return
    known = len(tokens) - len(without)
    message = f"{known:,} of {len(tokens):,} items have {what}"
    if sum(token in text.items for token in tokens) > known:
        raise UserError(
            f"{message}: the columns of {option} are empty in the .item file; choose other columns, or fill them"
        )
    named = set(tokens)
    other = next((token for token in text.items if token not in named), None)
    if other is None:
        raise UserError(f"{message}: the .item file has rows of {len(text.items):,} items; complete it")
    raise UserError(
        f"{message}, because the ids of the .inter and the .item file do not match (the first are '{tokens[0]}' and"
        f" '{other}'): write them alike; pandas may have read a column as numbers, which drops leading zeros or adds"
        " '.0'"
    )


def read_item_text(
    path: Path,
    id_column: str,
    columns: Sequence[str] | None = None,
    *,
    labels: bool = True,
    separator: str = "\t",
    encoding: str = "utf-8",
) -> ItemText:
    """Read the named columns of an atomic .item file.

    Quotes, entities and all scripts are kept; runs of white space and control characters become one space, so that an
    item is one line. If several rows have the same id, the first is used, as in RecBole.

    Args:
        path: the .item file, whose header is ``name:type`` per column.
        id_column: column of the item token.
        columns: text columns in the desired order; None takes every column except the id and float columns.
        labels: write each value after its column's name.
        separator: separator of columns.
        encoding: encoding of the file; a byte order mark is skipped.

    Raises:
        UserError: the file is missing, or lacks the id column or one of the columns.
    """
    if not path.is_file():
        raise UserError(
            f"no item file {path}: LLMTRSR reads item texts from it; create one with the header"
            f" '{id_column}:token{separator}title:token_seq' and one line per item"
        )
    header, lines = _lines(path, id_column, separator, encoding)
    names = [name for name, *_ in header]
    if columns is None:
        columns = [name for name, *kind in header if name != id_column and kind not in (["float"], ["float_seq"])]
    _check_columns(path, columns, [name for name in names if name != id_column])
    id_position, positions = names.index(id_column), [names.index(column) for column in columns]
    items: dict[str, Item] = {}
    ragged, repeated = [], []
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        values = line.split(separator)
        if len(values) > len(names):
            ragged.append(number)
            values[len(names) - 1 :] = [" ".join(values[len(names) - 1 :])]
        values += [""] * (len(names) - len(values))
        if values[id_position] in items:
            repeated.append(number)
        else:
            items[values[id_position]] = _item(columns, [values[p] for p in positions], labels)
    return ItemText(tuple(columns), items, labels, tuple(ragged), tuple(repeated))


def item_tokens(path: Path, id_column: str, separator: str = "\t", encoding: str | None = None) -> list[str]:
    """Tokens of all items of an atomic .item file, each once, in the order of their lines.

    Raises:
        UserError: an unreadable file, or one without the id column.
    """
    header, lines = _lines(path, id_column, separator, encoding or "utf-8")
    position = [name for name, *_ in header].index(id_column)
    columns = (line.split(separator) for line in lines if line)
    return list(dict.fromkeys(values[position] for values in columns if position < len(values) and values[position]))


def _lines(path: Path, id_column: str, separator: str, encoding: str) -> tuple[list[list[str]], list[str]]:
    """The header as [name, type] lists, and the lines after it."""
    try:
        text = path.read_bytes().decode("utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding)
    except (OSError, UnicodeDecodeError, LookupError) as error:
        raise UserError(
            f"item file {path} cannot be read ({error}): save it as UTF-8, or set encoding to the file's encoding"
        ) from error
    # Lines end with \n alone: text mode and str.splitlines would also cut at characters that occur inside texts.
    first, *lines = text.replace("\r\n", "\n").split("\n")
    header = [name.rsplit(":", 1) for name in first.split(separator)]
    names = [name for name, *_ in header]
    if id_column not in names:
        raise UserError(f"{path} has no column '{id_column}'; its columns are {', '.join(names)}")
    return header, lines


def _check_columns(path: Path, columns: Sequence[str], available: Sequence[str]) -> None:
    faults = []
    for column in columns:
        if column not in available:
            hint = did_you_mean(column, available)
            faults.append(
                f"item_text_fields: {path} has no column '{column}'; its columns are {', '.join(available)}{hint}"
            )
    if not columns:
        faults.append(f"{path} has no text column: LLMTRSR needs at least one besides the id, such as title:token_seq")
    if faults:
        raise UserError(faults)


def _item(columns: Sequence[str], values: Sequence[str], labels: bool) -> Item:
    fields = tuple((column, one_line(value)) for column, value in zip(columns, values, strict=True) if one_line(value))
    return Item(fields, "; ".join(f"{column}: {value}" if labels else value for column, value in fields))
