"""Data sets made of two DataFrames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import toy

from recbole_llmtrsr.data.frames import Dataset
from recbole_llmtrsr.errors import UserError

NAN = float("nan")


def clicks(**columns: Any) -> pd.DataFrame:
    """Four clicks of two users."""
    usual = {"user_id": ["a", "a", "b", "b"], "item_id": [1, 2, 2, 3], "timestamp": [10, 20, 10, 30]}
    return pd.DataFrame({**usual, **columns})


def products(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"item_id": [1, 2, 3], "title": ["Red kettle", "Blue lamp", "Oak desk"], **columns})


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Dataset]:
    """Makes the data set 'shop'."""

    def make(interactions: Any = None, items: Any = None, name: str = "shop", **options: Any) -> Dataset:
        interactions = clicks() if interactions is None else interactions
        items = products() if items is None else items
        return Dataset.from_frames(interactions, items, name, **{"text": "title", "folder": tmp_path, **options})

    return make


def test_frames_become_atomic_files_and_a_property_file(made: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = made(
        items=products(genres=[["a", "b"], np.array(["c"]), None]), text=["title", "genres"], domain="movies"
    )
    assert toy.read_atomic(tmp_path / "shop") == (
        "user_id:token\titem_id:token\ttimestamp:float\na\t1\t10\na\t2\t20\nb\t2\t10\nb\t3\t30\n",
        "item_id:token\ttitle:token_seq\tgenres:token_seq\n1\tRed kettle\ta, b\n2\tBlue lamp\tc\n3\tOak desk\t\n",
    )
    assert dataset.properties.read_text() == (
        f"dataset: shop\ndata_path: {tmp_path}\ndomain: movies\nitem_text_fields:\n- title\n- genres\nload_col:\n"
        "  inter:\n  - user_id\n  - item_id\n  - timestamp\n"
    )
    assert dataset.report.counts["users"] == 2
    assert str(dataset).splitlines()[-1] == "  nothing"
    assert repr(dataset) == f"Dataset(name='shop', folder={tmp_path!r})"


@pytest.mark.parametrize(
    "times",
    [
        pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-01", "2020-01-03"]),
        pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-01", "2020-01-03"], utc=True),
        ["2020-01-01", "2020-01-02T00:00:00", "2020-01-01T00:00:00Z", "2020-01-03"],
        [1577836800, 1577923200, 1577836800, 1578009600],
        [1577836800.0, 1577923200.0, 1577836800.0, 1578009600.0],
    ],
    ids=["datetimes", "with a zone", "texts", "whole numbers", "floats"],
)
def test_times_of_any_kind_are_seconds(made: Callable[..., Dataset], tmp_path: Path, times: Any) -> None:
    made(clicks(timestamp=times))
    events, _ = toy.read_atomic(tmp_path / "shop")
    assert [float(line.split("\t")[2]) for line in events.splitlines()[1:]] == [
        1577836800,
        1577923200,
        1577836800,
        1578009600,
    ]


def test_without_times_the_order_of_the_rows_counts(made: Callable[..., Dataset], tmp_path: Path) -> None:
    made(clicks().drop(columns="timestamp"), time=None)
    events, _ = toy.read_atomic(tmp_path / "shop")
    assert [line.split("\t")[2] for line in events.splitlines()[1:]] == ["0", "1", "0", "1"]


def test_columns_of_other_names(made: Callable[..., Dataset], tmp_path: Path) -> None:
    of_clicks = clicks(stars=[5, 4, 3, 2]).rename(columns={"user_id": "who", "item_id": "what", "timestamp": "at"})
    of_items = products().rename(columns={"item_id": "sku", "title": "product name"})
    made(of_clicks, of_items, user="who", item="what", items_id="sku", time="at", rating="stars", text=["product name"])
    events, items = toy.read_atomic(tmp_path / "shop")
    assert events.splitlines()[:2] == ["user_id:token\titem_id:token\trating:float\ttimestamp:float", "a\t1\t5\t10"]
    assert items.splitlines()[0] == "item_id:token\tproduct_name:token_seq"


def test_rows_without_an_id_or_a_time_and_repeated_items_are_counted_and_told(
    made: Callable[..., Dataset], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_clicks = clicks(item_id=[1, 2, NAN, 3], timestamp=[10, NAN, 10, 30])  # one missing id makes floats of all
    of_items = pd.concat([products(title=["Red kettle", None, NAN]), products()[:1]])
    dataset = made(of_clicks, of_items, max_lost=0.5)
    events, items = toy.read_atomic(tmp_path / "shop")
    assert events.splitlines()[1:] == ["a\t1\t10.0", "b\t3\t30.0"]
    assert items.splitlines()[1:] == ["1\tRed kettle", "2\t", "3\t"]
    assert dataset.report.counts["items without any text"] == 2
    assert [message.removeprefix("data set 'shop': ").split(" (empty")[0] for message in caplog.messages] == [
        "items: item_id seen before: 1 (row skipped, first kept); line 4",
        "interactions: timestamp is missing: 1 (row skipped); line 2",
        "interactions: user_id or item_id is not an id that RecBole keeps",
        "title: missing in 2 of 4 items",
    ]


def test_events_of_unknown_items_are_kept_and_told(
    made: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    assert made(clicks(item_id=[1, 2, 7, 3])).report.counts["events of items without a row (kept)"] == 1
    assert "1 of 4 events in interactions are of items that have no row in items, such as '7'" in caplog.text


REFUSED = {
    "no column of users": (
        {"user": "usr"},
        "interactions must have the column 'usr' once, it has .*; did you mean 'use",
    ),
    "no column of texts": ({"text": ["titel"]}, "items must have the column 'titel' once, .* did you mean 'title'"),
    "a column twice": ({"items": products().iloc[:, [0, 1, 1]]}, "items must have the column 'title' once"),
    "users in the index": (
        {"interactions": clicks().set_index("user_id")},
        r"'user_id' as its index: call reset_index",
    ),
    "no events": ({"interactions": clicks()[:0]}, "interactions has no row"),
    "no items": ({"items": products()[:0]}, "items has no row"),
    "no frame": ({"interactions": [1, 2]}, "interactions must be a pandas DataFrame, got a list"),
    "texts that are no times": ({"interactions": clicks(timestamp=["noon"] * 4)}, "4 of 4 rows are malformed"),
    "too many missing ids": (
        {"interactions": clicks(user_id=["a", None, None, "b"])},
        "2 of 4 .* more than max_lost=0.05",
    ),
    "no texts": ({"items": products(title=[None, NAN, ""])}, "no item of the DataFrame items has a text in title"),
    "unknown items alone": ({"interactions": clicks(item_id=[7, 8, 9, 7])}, "4 of 4 events .* write the ids alike"),
    "a path for a name": ({"name": "data/shop"}, "name must be the name of a folder, such as 'shop', got 'data/shop'"),
    "a name that RecBole uses": ({"name": "ml-100k"}, "the name 'ml-100k' has options of its own .* choose another"),
    "an unknown domain": ({"domain": "shops"}, "domain must be one of generic, news, products, movies, got 'shops'"),
    "a share above one": ({"max_lost": 5}, "max_lost must be a share from 0 to 1"),
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_what_is_no_data_set_is_refused_and_nothing_is_written(
    given: tuple[dict[str, Any], str], made: Callable[..., Dataset], tmp_path: Path
) -> None:
    arguments, message = given
    with pytest.raises(UserError, match=message):
        made(**arguments)
    assert not list(tmp_path.rglob("*.inter"))


def test_a_folder_with_other_files_is_refused_and_a_data_set_of_frames_is_replaced(
    made: Callable[..., Dataset], tmp_path: Path
) -> None:
    assert made() == made()
    (tmp_path / "shop" / "shop.user").write_text("user_id:token\n")
    with pytest.raises(UserError, match=r"shop holds .*shop.item, shop.user, which Dataset.from_frames did not make"):
        made()


def test_missing_texts_are_counted_by_column(made: Callable[..., Dataset], caplog: pytest.LogCaptureFixture) -> None:
    made(items=products(brand=[None, NAN, "Oak & Co"]), text=["title", "brand"])
    assert caplog.messages == ["data set 'shop': brand: missing in 2 of 3 items"]
