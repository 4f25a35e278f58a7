"""Amazon Reviews 2014 (McAuley et al., SIGIR 2015), 2018 (Ni et al., EMNLP 2019) and 2023 (Hou et al., 2024).

The fields of their lines, JSON or, in the metadata of 2014, Python dictionaries, identify the collection. Times are
seconds since 1970: those of 2014 and 2018 have the resolution of a day, and reviews of one user on one day keep the
order of the file; those of 2023 keep their milliseconds.

Of reviews equal in user, product and time the first is taken, then the k-core. The .item file has the products that
remain; the HTML in their texts becomes plain text. The files are streamed; kept in memory are numbers, at most about
100 bytes a review, and the ids of all users and products.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.atomic import BAD_ID, AtomicFile, atomic_files, atomic_paths, is_token
from recbole_llmtrsr.data.prepare.converters.amazon_files import Layout, find_files, layout_of
from recbole_llmtrsr.data.prepare.markup import without_markup
from recbole_llmtrsr.data.prepare.matching import check_match
from recbole_llmtrsr.data.prepare.raw import read_json_lines
from recbole_llmtrsr.data.prepare.records import as_text
from recbole_llmtrsr.data.prepare.report import MAX_LOST, Report
from recbole_llmtrsr.errors import UserError

COLUMNS = {
    "inter": ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
    "item": (
        *("item_id:token", "title:token_seq", "brand:token_seq", "category:token", "categories:token_seq"),
        *("price:token", "features:token_seq", "description:token_seq"),
    ),
}
_PRICE = re.compile(r"(from )?\$?\d[\d,.]*( - \$?\d[\d,.]*)?")
_N_OTHERS = 100_000
_BOUND = 1e15  # beyond all times in milliseconds
_PAGE_SOURCE = re.compile(r"getTime|</?(span|script|style|div)\b")


@dataclass
class _Reviews:
    """Reviews by number of user and item, in file order.

    Attributes:
        users: token -> number.
        items: token -> number.
        user: of each review; item, rating and time (seconds) likewise.
    """

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    user: array[int] = field(default_factory=lambda: array("i"))
    item: array[int] = field(default_factory=lambda: array("i"))
    rating: array[float] = field(default_factory=lambda: array("d"))
    time: array[float] = field(default_factory=lambda: array("d"))


def convert_amazon_reviews(
    source: Path,
    out: Path,
    category: str | None = None,
    k_core: int | None = 5,
    encoding: str = "utf-8",
    max_lost: float = MAX_LOST,
) -> Report:
    """Write ``<out>/<name of out>.inter`` and ``.item``; ``CONVERTERS`` explains the options.

    Returns:
        Counts, of the file and of the reviews that remain.

    Raises:
        UserError: no or several pairs of files, a file of another form, too many malformed lines, nothing left, reviews
            of other products, or an out folder that cannot be written.
    """
    reviews_path, meta_path = find_files(source, category)
    layout = layout_of(reviews_path, encoding)
    paths = ", ".join(map(str, atomic_paths(out, COLUMNS)))
    report = Report(f"amazon-reviews ({layout.name}): {paths}", encoding=encoding, max_lost=max_lost)
    reviews = _read_reviews(reviews_path, layout, report)
    rows, n_distinct = _selected(reviews, k_core)
    if not len(rows):
        found = "; ".join(report.fault_text()) or f"{len(reviews.user):,} are in the file"
        raise UserError(f"no review of {reviews_path} is left ({found}): choose a smaller --k_core than {k_core}, or ~")
    report.counts = {
        "reviews in the file": len(reviews.user),
        "users in the file": len(reviews.users),
        "products in the file": len(reviews.items),
        "reviews equal in user, product and time (first taken)": len(reviews.user) - n_distinct,
        "reviews outside the k-core": n_distinct - len(rows),
    }
    with atomic_files(out, COLUMNS) as (files, _):
        items, counts = _write_events(reviews, rows, files["inter"])
        report.counts |= counts
        described, others, product_counts = _convert_products(meta_path, files["item"], layout, items, report)
        report.counts |= product_counts
        is_known = np.array([name in described for name in reviews.items])
        n_unknown = int((~is_known[np.array(reviews.item)[rows]]).sum())
        check_match(reviews_path, meta_path, len(rows), n_unknown, items, described | others, report)
    return report


def _read_reviews(path: Path, layout: Layout, report: Report) -> _Reviews:
    reviews = _Reviews()
    for number, line in read_json_lines(path, report):
        values: list[Any] = [line.get(name) for name in (layout.user, layout.item, layout.rating, layout.time)]
        user, item, rating, time = values
        if not all(isinstance(token, str) and is_token(token) for token in (user, item)):
            report.fault(path.name, number, f"{layout.user} or {layout.item} is {BAD_ID}", "line skipped")
        elif not all(_is_number(value) for value in (rating, time)):
            report.fault(path.name, number, f"{layout.rating} or {layout.time} is no number", "line skipped")
        else:
            reviews.user.append(reviews.users.setdefault(user, len(reviews.users)))
            reviews.item.append(reviews.items.setdefault(item, len(reviews.items)))
            reviews.rating.append(rating)
            reviews.time.append(time / layout.per_second)
    return reviews


def _selected(reviews: _Reviews, k: int | None) -> tuple[npt.NDArray[np.int64], int]:
    """Numbers of the reviews that stay, in file order, and the number of distinct ones."""
    users, items = np.array(reviews.user), np.array(reviews.item)
    distinct = np.flatnonzero(~pd.DataFrame({"user": users, "item": items, "time": reviews.time}).duplicated())
    stays = distinct if k is None else distinct[core_mask(users[distinct], items[distinct], k)]
    return stays, len(distinct)


def core_mask(users: npt.NDArray[np.int32], items: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.bool_]:
    """Mask of the k-core: the events left when users and items with fewer than k events are removed until none is.

    >>> core_mask(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2).tolist()
    [True, True, True, True, False]
    """
    stays = np.ones(len(users), dtype=bool)
    while True:
        enough = stays.copy()
        for codes in (users, items):
            enough &= np.bincount(codes[stays], minlength=codes.max(initial=-1) + 1)[codes] >= k
        if (enough == stays).all():
            return stays
        stays = enough


def _write_events(reviews: _Reviews, rows: npt.NDArray[np.int64], file: AtomicFile) -> tuple[set[str], dict[str, int]]:
    """Write the reviews; return the items, and counts."""
    user_names, item_names = list(reviews.users), list(reviews.items)
    for row in map(int, rows):
        user, item, time = user_names[reviews.user[row]], item_names[reviews.item[row]], reviews.time[row]
        file.write(user, item, f"{reviews.rating[row]:g}", f"{time:.3f}".removesuffix(".000"))
    users, items, times = (np.array(column)[rows] for column in (reviews.user, reviews.item, reviews.time))
    counts = {
        "reviews": len(rows),
        "users": len(np.unique(users)),
        "products": len(np.unique(items)),
        "reviews at one time with an earlier line of their user": int(
            pd.DataFrame({"user": users, "time": times}).duplicated().sum()
        ),
    }
    return {item_names[item] for item in np.unique(items).tolist()}, counts


def _convert_products(
    path: Path, file: AtomicFile, layout: Layout, items: set[str], report: Report
) -> tuple[set[str], set[str], dict[str, int]]:
    """Write one row per product that is left; return these, some of the others, and counts."""
    described, others = set[str](), set[str]()
    n_others = n_page_source = n_odd_prices = n_marked_up = 0

    def plain(value: object, separator: str = ", ") -> str:
        nonlocal n_marked_up
        text = as_text(value, separator)
        cleaned = without_markup(text)
        n_marked_up += cleaned != text
        return one_line(cleaned)

    for number, line in read_json_lines(path, report):
        item = line.get(layout.item)
        if not isinstance(item, str):
            report.fault(path.name, number, f"no {layout.item}", "line skipped")
        elif item not in items:
            n_others += 1
            if len(others) < _N_OTHERS:
                others.add(item)
        elif item in described:
            report.fault(path.name, number, "product seen before", "line skipped, first kept", lost=None)
        else:
            described.add(item)
            title, price = as_text(line.get("title")), one_line(as_text(line.get("price")))
            is_page_source, is_odd_price = bool(_PAGE_SOURCE.search(title)), not _PRICE.fullmatch(price or "0")
            n_page_source += is_page_source
            n_odd_prices += is_odd_price
            # Reviews of 2014 without the field that identifies them count as 2018.
            raw = line.get(layout.categories) or line.get("categories")
            categories = [plain(part) for part in _flat(raw)]
            file.write(
                item,
                "" if is_page_source else plain(title),
                plain(line.get(layout.brand)),
                # The first is the same throughout the file.
                (categories[1:2] or categories[:1] or [""])[0],
                ", ".join(filter(None, categories)),
                "" if is_odd_price else price,
                *(plain(line.get(name), " ") for name in (layout.features, "description")),
            )
    return (
        described,
        others,
        {
            "products without a line in the metadata": len(items) - len(described),
            "lines of the metadata for other products (not in .item)": n_others,
            "titles that are the source of a page (left empty)": n_page_source,
            "prices that are no price (left empty)": n_odd_prices,
            "texts with HTML entities or tags (made plain)": n_marked_up,
        },
    )


def _flat(value: object) -> list[Any]:
    """One path of categories: that of 2018 and 2023, or the paths of 2014 joined, which share their beginnings."""
    paths: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(path, list) for path in paths):
        return paths
    return list(dict.fromkeys(as_text(name) for path in paths for name in path))


def _is_number(value: object) -> bool:
    # JSON has numbers that no float can hold, and NaN, which no comparison accepts.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _BOUND
