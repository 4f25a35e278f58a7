"""The files of Amazon Reviews: their names, and the fields of 2014, 2018 and 2023."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_llmtrsr.data.prepare.raw import read_json_lines
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

REMEDY = (
    "give the folder of the reviews and the metadata of a category, such as Video_Games.jsonl.gz and"
    " meta_Video_Games.jsonl.gz (2023), Video_Games_5.json.gz and meta_Video_Games.json.gz (2018), or"
    " reviews_Video_Games_5.json.gz and meta_Video_Games.json.gz (2014)"
)
_SUFFIXES = (".jsonl.gz", ".json.gz", ".jsonl", ".json")


@dataclass(frozen=True)
class Layout:
    """Names of the fields.

    Attributes:
        name: year of the collection.
        mark: a field that only its reviews have.
        per_second: units of ``time`` in a second.
    """

    name: str
    mark: str
    user: str
    item: str
    rating: str
    time: str
    per_second: int
    brand: str
    categories: str
    features: str


LAYOUTS = (
    Layout("2014", "helpful", "reviewerID", "asin", "overall", "unixReviewTime", 1, "brand", "categories", "feature"),
    Layout("2018", "asin", "reviewerID", "asin", "overall", "unixReviewTime", 1, "brand", "category", "feature"),
    Layout(
        "2023", "parent_asin", "user_id", "parent_asin", "rating", "timestamp", 1000, "store", "categories", "features"
    ),
)


def layout_of(path: Path, encoding: str = "utf-8") -> Layout:
    """The layout of the first object of a file of reviews; a UserError for an unreadable file, or an unknown layout."""
    first = next((line for _, line in read_json_lines(path, Report("", encoding=encoding))), {})
    for layout in LAYOUTS:
        if {layout.mark, layout.user, layout.item, layout.rating, layout.time} <= first.keys():
            return layout
    wanted = " nor ".join(f"{each.user}, {each.item}, {each.rating}, {each.time} ({each.name})" for each in LAYOUTS[1:])
    raise UserError(f"the first review of {path} has neither {wanted}, only {', '.join(first) or 'nothing'}: {REMEDY}")


def find_files(source: Path, category: str | None) -> tuple[Path, Path]:
    """The reviews and the metadata.

    Args:
        source: the folder.
        category: file name of the reviews up to .json; None takes the only one.

    Raises:
        UserError: no such folder, no such file, several to choose from, or one in two forms, plain and packed.
    """
    if not source.is_dir():
        raise UserError(f"no source folder {source}: {REMEDY}")
    stems = {path: path.name.removesuffix(_suffix(path)) for path in sorted(source.iterdir()) if _suffix(path)}
    reviews = [path for path, stem in stems.items() if not stem.startswith("meta_") and category in (None, stem)]
    if len(reviews) != 1:
        found = ", ".join(path.name for path in stems) or "no .json or .jsonl file"
        if not reviews:
            wanted = f"reviews of '{category}'" if category else "file of reviews"
            raise UserError(f"no {wanted} in {source} ({found}): {REMEDY}")
        if len({stems[path] for path in reviews}) > 1:
            raise UserError(f"{len(reviews)} files of reviews in {source} ({found}): choose one with --category")
        raise _two_forms(reviews)
    of = stems[reviews[0]].removeprefix("reviews_").removesuffix("_5")  # a 5-core shares the metadata of all
    meta = [path for path, stem in stems.items() if stem == f"meta_{of}"]
    if not meta:
        raise UserError(f"no file meta_{of}.json or .jsonl in {source}, one is needed: {REMEDY}")
    if len(meta) > 1:
        raise _two_forms(meta)
    return reviews[0], meta[0]


def _two_forms(paths: Sequence[Path]) -> UserError:
    # Only the user knows which of them is complete: a download or unpacking may have stopped half way.
    names = " and ".join(path.name for path in paths)
    return UserError(f"{names} in {paths[0].parent} have one name in several forms: keep one, move the others away")


def _suffix(path: Path) -> str:
    return next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")
