"""Amazon Reviews to atomic files, both collections: literal raw folders, literal results."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import read_atomic

from recbole_llmtrsr.data.prepare.atomic import BAD_ID
from recbole_llmtrsr.data.prepare.converters.amazon_reviews import convert_amazon_reviews, core_mask
from recbole_llmtrsr.errors import UserError

# (user, item, rating, seconds); u1's second line equals the first in all but the rating; u2 chose p1 at two times.
EVENTS = [
    ("u1", "p1", 5.0, 1_600_000_000),
    ("u1", "p1", 1.0, 1_600_000_000),
    ("u2", "p1", 4.0, 1_500_000_000),
    ("u1", "p2", 3.0, 1_600_000_000),
    ("u2", "p2", 4.5, 1_400_000_000),
    ("u2", "p1", 2.0, 1_600_086_400),
    ("u3", "p3", 5.0, 1_300_000_000),
]
INTER_2018 = """\
user_id:token\titem_id:token\trating:float\ttimestamp:float
u1\tp1\t5\t1600000000
u2\tp1\t4\t1500000000
u1\tp2\t3\t1600000000
u2\tp2\t4.5\t1400000000
u2\tp1\t2\t1600086400
"""
ITEM_HEADER = (
    "item_id:token\ttitle:token_seq\tbrand:token_seq\tcategory:token\tcategories:token_seq\tprice:token"
    "\tfeatures:token_seq\tdescription:token_seq\n"
)
ITEM = (
    ITEM_HEADER
    + "p1\tKettle\tAcme\tKitchen\tHome, Kitchen, Kettles\t19.99\tSteel 1.7 l\tBoils water. Fast.\n"
    + "p2\tLamp\t\tHome\tHome\t\t\t\n"
)


def reviews(year: int) -> list[dict[str, Any]]:
    if year == 2018:
        return [
            {"overall": rating, "reviewerID": user, "asin": item, "unixReviewTime": time, "reviewText": "x"}
            for user, item, rating, time in EVENTS
        ]
    return [
        {"rating": rating, "user_id": user, "asin": "child", "parent_asin": item, "timestamp": time * 1000 + 7}
        for user, item, rating, time in EVENTS
    ]


def products(year: int) -> list[dict[str, Any]]:
    names = (
        ("asin", "brand", "category", "feature") if year == 2018 else ("parent_asin", "store", "categories", "features")
    )
    rows = [
        ("p1", "Kettle", "Acme", ["Home", "Kitchen", "Kettles"], ["Steel", "1.7\tl"], ["Boils\nwater.", "Fast."]),
        ("p2", "Lamp", None, ["Home"], [], []),
        ("p4", "Never reviewed", None, [], [], []),
    ]
    made = []
    for item, title, brand, categories, features, description in rows:
        values = dict(zip(names, (item, brand, categories, features), strict=True))
        price = 19.99 if item == "p1" else None
        made.append({"title": title, "description": description, "price": price, **values})
    return made


def write_raw(folder: Path, year: int, first: list[Any] | None = None, second: list[Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    suffix = ".json.gz" if year == 2018 else ".jsonl.gz"
    for name, lines in (("Home", first or reviews(year)), ("meta_Home", second or products(year))):
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(text.encode()))
    return folder


def test_the_collection_of_2018_becomes_its_2_core(tmp_path: Path) -> None:
    report = convert_amazon_reviews(write_raw(tmp_path / "raw", 2018), tmp_path / "home", k_core=2)
    assert read_atomic(tmp_path / "home") == (INTER_2018, ITEM)
    assert report.title.startswith("amazon-reviews (2018): ")
    assert report.faults == {}
    assert report.counts == {
        "reviews in the file": 7,
        "users in the file": 3,
        "products in the file": 3,
        "reviews equal in user, product and time (first taken)": 1,
        "reviews outside the k-core": 1,
        "reviews": 5,
        "users": 2,
        "products": 2,
        "reviews at one time with an earlier line of their user": 1,
        "products without a line in the metadata": 0,
        "lines of the metadata for other products (not in .item)": 1,
        "titles that are the source of a page (left empty)": 0,
        "prices that are no price (left empty)": 0,
        "texts with HTML entities or tags (made plain)": 0,
    }


def test_the_collection_of_2023_says_the_same_to_the_millisecond(tmp_path: Path) -> None:
    report = convert_amazon_reviews(write_raw(tmp_path / "raw", 2023), tmp_path / "home", k_core=2)
    inter, item = read_atomic(tmp_path / "home")
    assert report.title.startswith("amazon-reviews (2023): ")
    assert inter == INTER_2018.replace("00\n", "00.007\n")
    assert item == ITEM


@pytest.mark.parametrize("names", [("reviews_Home_5", "meta_Home"), ("Home", "meta_Home")])
def test_the_collection_of_2014_is_read_under_its_names_and_from_python_dictionaries(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    old = [
        {**row, "categories": [row.pop("category"), ["Home", "Steel"]], "description": " ".join(row["description"])}
        for row in products(2018)[:2]
    ]
    lines = [json.dumps({**review, "helpful": [0, 1]}) for review in reviews(2018)]
    for name, rows in zip(names, (lines, map(repr, old)), strict=True):
        (raw / f"{name}.json.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    report = convert_amazon_reviews(raw, tmp_path / "home", k_core=2)
    assert report.title.startswith("amazon-reviews (2014): ")
    assert report.notes == {"meta_Home.json.gz: lines that are Python dictionaries, not JSON (read)": 2}
    inter, item = read_atomic(tmp_path / "home")
    assert inter == INTER_2018
    assert item.splitlines()[1:] == [
        "p1\tKettle\tAcme\tKitchen\tHome, Kitchen, Kettles, Steel\t19.99\tSteel 1.7 l\tBoils water. Fast.",
        "p2\tLamp\t\tSteel\tHome, Steel\t\t\t",
    ]


def test_without_a_core_all_but_equal_reviews_stay(tmp_path: Path) -> None:
    report = convert_amazon_reviews(write_raw(tmp_path / "raw", 2018), tmp_path / "home", k_core=None)
    inter, item = read_atomic(tmp_path / "home")
    assert inter == INTER_2018 + "u3\tp3\t5\t1300000000\n"
    assert item == ITEM
    assert report.counts["products without a line in the metadata"] == 1


def test_the_core_is_of_five_by_default(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no review of .* is left \(7 are in the file\): choose a smaller --k_core than 5"
    ):
        convert_amazon_reviews(write_raw(tmp_path / "raw", 2018), tmp_path / "home")
    assert not (tmp_path / "home").exists()


REVIEW = '{"overall": 1, "reviewerID": "u1", "asin": "p1", "unixReviewTime": 1}'
NO_ID, NO_NUMBER = f"reviewerID or asin is {BAD_ID}", "overall or unixReviewTime is no number"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (REVIEW.removesuffix("}"), "not a JSON object"),
        (REVIEW.replace("reviewerID", "name"), NO_ID),
        (REVIEW.replace("u1", "u\\t1"), NO_ID),
        (REVIEW.replace('Time": 1', 'Time": "1"'), NO_NUMBER),
        (REVIEW.replace('overall": 1', 'overall": NaN'), NO_NUMBER),
        (REVIEW.replace('Time": 1', 'Time": 1' + "0" * 400), NO_NUMBER),
    ],
)
def test_a_malformed_review_is_skipped_and_reported_by_line(tmp_path: Path, line: str, fault: str) -> None:
    raw = write_raw(tmp_path / "raw", 2018, [*reviews(2018), line])
    report = convert_amazon_reviews(raw, tmp_path / "home", k_core=2, max_lost=1)
    assert report.fault_text() == [f"Home.json.gz: {fault}: 1 (line skipped); line 8"]
    assert read_atomic(tmp_path / "home") == (INTER_2018, ITEM)


def test_texts_that_are_none_are_left_empty_and_counted(tmp_path: Path) -> None:
    odd = [
        {**products(2018)[0], "title": "var t = new Date().getTime(); <span>", "price": ".a-box { color: red }"},
        {**products(2018)[1], "price": "$5.99 - $1,012.50", "category": "Lamps"},
        products(2018)[0],
        {"title": "no id"},
    ]
    raw = write_raw(tmp_path / "raw", 2018, None, odd)
    report = convert_amazon_reviews(raw, tmp_path / "home", k_core=2, max_lost=1)
    assert read_atomic(tmp_path / "home")[1].splitlines()[1:] == [
        "p1\t\tAcme\tKitchen\tHome, Kitchen, Kettles\t\tSteel 1.7 l\tBoils water. Fast.",
        "p2\tLamp\t\tLamps\tLamps\t$5.99 - $1,012.50\t\t",
    ]
    assert report.counts["titles that are the source of a page (left empty)"] == 1
    assert report.counts["prices that are no price (left empty)"] == 1
    assert report.fault_text() == [
        "meta_Home.json.gz: product seen before: 1 (line skipped, first kept); line 3",
        "meta_Home.json.gz: no asin: 1 (line skipped); line 4",
    ]


def test_one_of_several_categories_is_chosen_and_a_5_core_shares_the_metadata_of_all(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", 2018)
    (raw / "Home_5.json.gz").write_bytes((raw / "Home.json.gz").read_bytes())
    with pytest.raises(UserError, match=r"2 files of reviews in .*Home_5.json.gz.*choose one with --category"):
        convert_amazon_reviews(raw, tmp_path / "home", k_core=2)
    convert_amazon_reviews(raw, tmp_path / "home", category="Home_5", k_core=2)
    assert read_atomic(tmp_path / "home") == (INTER_2018, ITEM)
    with pytest.raises(UserError, match="no reviews of 'Books' in .*: give the folder"):
        convert_amazon_reviews(raw, tmp_path / "home", category="Books")


@pytest.mark.parametrize("name", ["Home", "meta_Home"])
@pytest.mark.parametrize("category", [None, "Home"])
def test_a_file_in_two_forms_is_an_error_until_one_is_gone(tmp_path: Path, name: str, category: str | None) -> None:
    raw = write_raw(tmp_path / "raw", 2018)
    twin = raw / f"{name}.json"
    twin.write_bytes(gzip.decompress((raw / f"{name}.json.gz").read_bytes()))
    with pytest.raises(UserError, match=rf"{name}\.json and {name}\.json\.gz in .* several forms: keep one"):
        convert_amazon_reviews(raw, tmp_path / "home", category, k_core=2)
    (raw / f"{name}.json.gz").unlink()
    convert_amazon_reviews(raw, tmp_path / "home", category, k_core=2)
    assert read_atomic(tmp_path / "home") == (INTER_2018, ITEM)


def test_the_html_of_the_shop_s_pages_becomes_plain_and_is_counted(tmp_path: Path) -> None:
    marked = {
        "asin": "p1",
        "title": "Salt &amp; Pepper&nbsp;Mill, 5&#34;",
        "brand": "P&G",
        "category": ["Home &amp; Kitchen", "Mills &amp; Co"],
        "feature": ["Grinds <b>fine</b>, < 1 mm", "<br>"],
        "description": ["<p>One.</p><p>Two", "<style>p {}</style>"],
    }
    report = convert_amazon_reviews(
        write_raw(tmp_path / "raw", 2018, None, [marked, products(2018)[1]]), tmp_path / "home", k_core=2
    )
    assert read_atomic(tmp_path / "home")[1].splitlines()[1:] == [
        'p1\tSalt & Pepper Mill, 5"\tP&G\tMills & Co\tHome & Kitchen, Mills & Co\t\tGrinds fine, < 1 mm\tOne. Two',
        "p2\tLamp\t\tHome\tHome\t\t\t",
    ]
    assert report.counts["texts with HTML entities or tags (made plain)"] == 5


def test_a_file_of_neither_collection_is_an_error_that_names_its_fields(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", 2018, [{"user": "u1", "item": "p1"}])
    with pytest.raises(UserError, match="neither reviewerID, asin, .*only user, item: give the folder"):
        convert_amazon_reviews(raw, tmp_path / "home")


def test_metadata_of_another_collection_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", 2018, None, products(2023))
    with pytest.raises(
        UserError, match=r"meta_Home\.json\.gz: 3 of 3 rows .* The first is line 1, no asin: '\{\"title"
    ):
        convert_amazon_reviews(raw, tmp_path / "home", k_core=2)
    assert not (tmp_path / "home").exists()


# User 0 has three events and user 2 one; without user 2, item 2 has one event, and without item 2, user 1 has one.
USERS = np.array([0, 0, 0, 1, 1, 2, 3, 3], dtype=np.int32)
ITEMS = np.array([0, 1, 1, 0, 2, 2, 0, 1], dtype=np.int32)


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, [1, 1, 1, 1, 1, 1, 1, 1]), (2, [1, 1, 1, 0, 0, 0, 1, 1]), (3, [0, 0, 0, 0, 0, 0, 0, 0])],
)
def test_users_and_items_below_k_leave_until_none_is(k: int, expected: list[int]) -> None:
    assert core_mask(USERS, ITEMS, k).tolist() == [bool(stays) for stays in expected]


def test_what_stays_is_the_largest_set_whose_users_and_items_all_have_k() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.geometric(0.08, 240).astype(np.int32), rng.geometric(0.08, 240).astype(np.int32)
    left = list(zip(users.tolist(), items.tolist(), range(240), strict=True))
    weak_at_first: list[tuple[int, int, int]] = []
    while True:  # one event at a time
        weak = [
            event
            for event in left
            if sum(other[0] == event[0] for other in left) < 5 or sum(other[1] == event[1] for other in left) < 5
        ]
        weak_at_first = weak_at_first or weak
        if not weak:
            break
        left.remove(weak[0])
    assert 0 < len(left) < 240 - len(weak_at_first)
    assert np.flatnonzero(core_mask(users, items, 5)).tolist() == [number for *_, number in left]


def test_no_event_has_a_core() -> None:
    nothing = np.array([], dtype=np.int32)
    assert core_mask(nothing, nothing, 5).tolist() == []
