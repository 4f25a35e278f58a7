"""Amazon-M2 (Jin et al., NeurIPS 2023; KDD Cup 2023), official CSV files -> atomic files.

A session is a user, named by the number of its line in sessions_train.csv, so that its name does not depend on the
locales taken; ``next_item`` is its last event and ``timestamp`` the position, 0, 1, 2... The text of a product differs
by locale, so an item is a product of one locale: its id where one locale is taken, else ``<id>@<locale>``.

The files are streamed; kept in memory are the ids of the products and of those in sessions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.atomic import BAD_ID, AtomicFile, atomic_files, atomic_paths, is_token
from recbole_llmtrsr.data.prepare.matching import check_match
from recbole_llmtrsr.data.prepare.raw import read_csv, require_files
from recbole_llmtrsr.data.prepare.report import MAX_LOST, Report
from recbole_llmtrsr.errors import UserError

_TEXTS = ("title", "brand", "color", "size", "model", "material", "author", "desc")
COLUMNS = {
    "inter": ("user_id:token", "item_id:token", "timestamp:float"),
    "item": ("item_id:token", "price:token", *(f"{text}:token_seq" for text in _TEXTS)),
}
PLACEHOLDER_PRICE = "40000000.07"
_REMEDY = "give the folder of the official KDD Cup 2023 files, with products_train.csv and sessions_train.csv"
# A list of texts as printed by NumPy or Python; NumPy's has no commas and may span several lines.
_QUOTED = r"(?:'[^']*'|\"[^\"]*\")"
_LIST = re.compile(rf"\[\s*(?:{_QUOTED}[\s,]*)*\]")
_ITEM = re.compile(_QUOTED)


def convert_amazon_m2(
    source: Path,
    out: Path,
    locale: Sequence[str] | None = None,
    encoding: str = "utf-8",
    max_lost: float = MAX_LOST,
) -> Report:
    """Write ``<out>/<name of out>.inter`` and ``.item``; ``CONVERTERS`` explains the options.

    Returns:
        Counts; ``products`` are all of the locales, in a session or not.

    Raises:
        UserError: a missing file or column, too many malformed rows, a locale without a session, sessions of other
            products, or an out folder that cannot be written.
    """
    products_path, sessions_path = require_files(source, ["products_train.csv", "sessions_train.csv"], _REMEDY)
    paths = ", ".join(map(str, atomic_paths(out, COLUMNS)))
    report = Report(f"amazon-m2: {paths}", encoding=encoding, max_lost=max_lost)

    def token(item: str, of: str) -> str:
        return item if locale is not None and len(locale) == 1 else f"{item}@{of}"

    with atomic_files(out, COLUMNS) as (files, _):
        report.counts, products = _convert_products(products_path, files["item"], locale, token, report)
        counts, items = _convert_sessions(sessions_path, files["inter"], locale, token, products, report)
        report.counts |= counts
        n, n_unknown = counts["events"], counts["events of products without a line (kept)"]
        check_match(sessions_path, products_path, n, n_unknown, items, products, report)
    return report


def _convert_products(
    path: Path, file: AtomicFile, locales: Sequence[str] | None, token: Callable[[str, str], str], report: Report
) -> tuple[dict[str, int], set[str]]:
    """Write one row per product; return counts, and the items."""
    products: set[str] = set()
    n_placeholders = 0
    for number, (item, locale, price, *texts) in read_csv(path, ["id", "locale", "price", *_TEXTS], report, _REMEDY):
        if locales is not None and locale not in locales:
            continue
        name = token(item, locale)
        if not is_token(item) or not is_token(locale):
            report.fault(path.name, number, f"id or locale is {BAD_ID}", "row skipped")
        elif name in products:
            report.fault(path.name, number, "product seen before in this locale", "row skipped, first kept", lost=None)
        else:
            products.add(name)
            n_placeholders += price == PLACEHOLDER_PRICE
            file.write(name, "" if price == PLACEHOLDER_PRICE else one_line(price), *map(one_line, texts))
    return {"products": len(products), f"prices of {PLACEHOLDER_PRICE} (left empty)": n_placeholders}, products


def _convert_sessions(
    path: Path,
    file: AtomicFile,
    locales: Sequence[str] | None,
    token: Callable[[str, str], str],
    products: set[str],
    report: Report,
) -> tuple[dict[str, int], set[str]]:
    """Write all events; return counts, and the items."""
    lengths, found = Counter[int](), Counter[str]()
    items: set[str] = set()
    n_unknown = 0
    for number, (previous, target, locale) in read_csv(path, ["prev_items", "next_item", "locale"], report, _REMEDY):
        found[locale] += 1
        if locales is not None and locale not in locales:
            continue
        sequence = [entry[1:-1] for entry in _ITEM.findall(previous)] + [target]
        if not _LIST.fullmatch(previous.strip()):
            report.fault(path.name, number, "prev_items not as ['B01' 'B02']", "session skipped")
        elif not is_token(locale) or not all(map(is_token, sequence)):
            report.fault(path.name, number, f"an item or the locale is {BAD_ID}", "session skipped")
        else:
            names = [token(item, locale) for item in sequence]
            for position, name in enumerate(names):
                file.write(str(number), name, str(position))
            lengths[len(names)] += 1
            items.update(names)
            n_unknown += sum(name not in products for name in names)
    missing = [locale for locale in locales or () if not found[locale]]
    if missing or not lengths:
        known = ", ".join(f"{locale} ({n:,})" for locale, n in found.most_common())
        raise UserError(
            f"{path} has no session of {', '.join(missing) or 'any use'}; its sessions are {known or 'none'}"
        )
    counts = {
        "sessions": lengths.total(),
        "sessions of one event": lengths[1],
        "events": sum(length * n for length, n in lengths.items()),
        "longest session": max(lengths),
        "products in sessions": len(items),
        "products in sessions without a line": len(items - products),
        "events of products without a line (kept)": n_unknown,
    }
    return counts, items
