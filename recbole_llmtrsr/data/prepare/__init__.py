"""Converters from raw data sets to RecBole's atomic files, one module each, all listed in CONVERTERS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llmtrsr.data.prepare.atomic import is_number
from recbole_llmtrsr.data.prepare.converters.amazon_m2 import convert_amazon_m2
from recbole_llmtrsr.data.prepare.converters.amazon_reviews import convert_amazon_reviews
from recbole_llmtrsr.data.prepare.converters.mind import convert_mind
from recbole_llmtrsr.data.prepare.converters.movielens import convert_movielens
from recbole_llmtrsr.data.prepare.converters.table import convert_table
from recbole_llmtrsr.data.prepare.report import MAX_LOST, Report
from recbole_llmtrsr.errors import UserError


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _core(text: str) -> int | None:
    if text == "~":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--k_core must be a whole number >= 1, or ~ for none, got '{text}'")
    return int(text)


def _share(text: str) -> float:
    if not is_number(text) or not 0 <= float(text) <= 1:
        raise UserError(f"--max_lost must be a share from 0 to 1, such as 0.1 for one row in ten, got '{text}'")
    return float(text)


@dataclass(frozen=True)
class Option:
    """One option of a converter.

    Attributes:
        name: of the flag and of the converter's argument.
        help: of the flag.
        read: parses the flag's value.
        is_required: whether the flag must be given; else the converter's argument has a default.
    """

    name: str
    help: str
    read: Callable[[str], Any] = str
    is_required: bool = False


@dataclass(frozen=True)
class Converter:
    """One raw data set.

    Attributes:
        source: files of the source folder, for the command line's help.
        convert: reads the source folder, writes ``<out>/<name of out>.inter`` and ``.item``, and returns the counts.
        options: of the converter, besides the two folders.
        published: counts to compare with and their source; empty where none are known.
    """

    source: str
    convert: Callable[..., Report]
    options: tuple[Option, ...] = ()
    published: str = ""


_OF_ALL = (
    Option("encoding", "encoding of the source's text files, such as latin-1 or cp1252 (utf-8)"),
    Option(
        "max_lost",
        f"largest share of a file's rows that may be malformed and skipped ({MAX_LOST:g}); above 0.5, it also allows"
        " as many events of items without a row",
        _share,
    ),
)

CONVERTERS: dict[str, Converter] = {
    "mind": Converter(
        "behaviors.tsv and news.tsv, as in the official MIND archives",
        convert_mind,
        _OF_ALL,
        published="MINDsmall has 50,000 users and 5,843,444 impression entries in its training part, 2,740,998 in its"
        " validation part (RecZoo, MIND_small_x1)",
    ),
    "amazon-m2": Converter(
        "products_train.csv and sessions_train.csv, as in the KDD Cup 2023",
        convert_amazon_m2,
        (Option("locale", "locales to convert, such as UK or DE,UK (all)", _names), *_OF_ALL),
        published="3,606,249 sessions and 1,551,057 products, each counted once per locale: UK 1,182,181 and 500,180,"
        " DE 1,111,416 and 518,327, JP 979,119 and 395,009 (Jin et al., NeurIPS 2023)",
    ),
    "amazon-reviews": Converter(
        "the reviews and the metadata (meta_...) of a category, as collected in 2014, 2018 or 2023, also with .gz",
        convert_amazon_reviews,
        (
            Option("category", "file name of the reviews up to .json, if the folder holds several"),
            Option("k_core", "minimum number of reviews of every user and product (5); ~ keeps all", _core),
            *_OF_ALL,
        ),
    ),
    "movielens": Converter(
        "ratings and movies of an official archive: 100k, 1M, 10M, 25M, 32M or latest",
        convert_movielens,
        (
            Option("plots", "table of plots (.csv, .tsv, .jsonl, .parquet), which fill the column overview", Path),
            Option("plot_id", "id column of the plots: imdbId, imdb_id, tmdbId, tmdb_id or movieId (movieId)"),
            Option("plot_text", "text column of the plots (overview)"),
            *_OF_ALL,
        ),
        published="users, rated movies and ratings: 943, 1,682, 100,000 (100k), 6,040, 3,706, 1,000,209 (1M), 162,541,"
        " 59,047, 25,000,095 (25M), 610, 9,724, 100,836 (latest-small of 2018) (GroupLens)",
    ),
    "table": Converter(
        "a table of events and one of items, each .csv, .tsv, .jsonl or .parquet",
        convert_table,
        (
            Option("interactions", "file name of the events", is_required=True),
            Option("items", "file name of the items", is_required=True),
            Option("user", "user column of the events", is_required=True),
            Option("item", "item column of the events", is_required=True),
            Option("text", "text columns of the items, such as title,brand", _names, is_required=True),
            Option(
                "time",
                "time column of the events, numbers or ISO 8601; if omitted, events are in the order of the rows",
            ),
            Option("rating", "numeric column of the events to keep as rating"),
            Option("items_id", "id column of the items (the item column of the events)"),
            *_OF_ALL,
        ),
    ),
}
