"""Amazon-M2's CSV files to atomic files: literal raw folder, literal result."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import read_atomic

from recbole_llmtrsr.data.prepare.atomic import BAD_ID
from recbole_llmtrsr.data.prepare.converters.amazon_m2 import convert_amazon_m2
from recbole_llmtrsr.errors import UserError

PRODUCTS = """\
id,locale,title,price,brand,color,size,model,material,author,desc
B01,UK,"Kettle, 1.7 l",19.99,Acme,red,,K1,Steel,,"Boils
water ""fast"" now"
B02,UK,Lamp,40000000.07,,,30 cm,,,,
B01,DE,Wasserkocher,21.5,Acme,rot,,K1,Stahl,,Kocht Wasser
B03,UK,A novel,5,,,,,,J. Doe,
B04,DE,Lampe,9,,,,,,,
"""
# As NumPy prints lists: no commas, and long ones over several lines.
SESSIONS = """\
prev_items,next_item,locale
"['B01' 'B02'
 'B01']",B03,UK
['B01'],B04,DE
['B99'],B02,UK
"['B01', 'B03']",B01,UK
"""
ITEM_HEADER = (
    "item_id:token\tprice:token\ttitle:token_seq\tbrand:token_seq\tcolor:token_seq\tsize:token_seq\tmodel:token_seq"
    "\tmaterial:token_seq\tauthor:token_seq\tdesc:token_seq\n"
)
ITEM_UK = (
    ITEM_HEADER
    + 'B01\t19.99\tKettle, 1.7 l\tAcme\tred\t\tK1\tSteel\t\tBoils water "fast" now\n'
    + "B02\t\tLamp\t\t\t30 cm\t\t\t\t\n"
    + "B03\t5\tA novel\t\t\t\t\t\tJ. Doe\t\n"
)
# A session is called by its line: the second starts on line 4.
INTER_UK = """\
user_id:token\titem_id:token\ttimestamp:float
2\tB01\t0
2\tB02\t1
2\tB01\t2
2\tB03\t3
5\tB99\t0
5\tB02\t1
6\tB01\t0
6\tB03\t1
6\tB01\t2
"""


def write_raw(folder: Path, products: str = PRODUCTS, sessions: str = SESSIONS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "products_train.csv").write_bytes(products.encode())
    (folder / "sessions_train.csv").write_bytes(sessions.encode())
    return folder


def test_a_locale_becomes_its_sessions_and_all_its_products(tmp_path: Path) -> None:
    report = convert_amazon_m2(write_raw(tmp_path / "raw"), tmp_path / "m2", ["UK"])
    assert read_atomic(tmp_path / "m2") == (INTER_UK, ITEM_UK)
    assert report.faults == {}
    assert report.counts == {
        "products": 3,
        "prices of 40000000.07 (left empty)": 1,
        "sessions": 3,
        "sessions of one event": 0,
        "events": 9,
        "longest session": 4,
        "products in sessions": 4,
        "products in sessions without a line": 1,
        "events of products without a line (kept)": 1,
    }


def test_with_several_locales_a_product_is_that_of_one_locale(tmp_path: Path) -> None:
    convert_amazon_m2(write_raw(tmp_path / "raw"), tmp_path / "m2")
    inter, item = read_atomic(tmp_path / "m2")
    assert [line.split("\t")[:3:2] for line in item.splitlines()[1:]] == [
        ["B01@UK", "Kettle, 1.7 l"],
        ["B02@UK", "Lamp"],
        ["B01@DE", "Wasserkocher"],
        ["B03@UK", "A novel"],
        ["B04@DE", "Lampe"],
    ]
    assert "4\tB01@DE\t0\n4\tB04@DE\t1\n" in inter
    convert_amazon_m2(write_raw(tmp_path / "raw"), tmp_path / "m2", ["DE", "UK"])
    assert read_atomic(tmp_path / "m2") == (inter, item)


def test_a_session_has_one_name_whatever_locales_are_taken(tmp_path: Path) -> None:
    convert_amazon_m2(write_raw(tmp_path / "raw"), tmp_path / "m2", ["DE"])
    assert read_atomic(tmp_path / "m2")[0].splitlines()[1:] == ["4\tB01\t0", "4\tB04\t1"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("B01 B02,B03,UK", "prev_items not as ['B01' 'B02']: 1 (session skipped); line 7"),
        ("['B01' ... 'B02'],B03,UK", "prev_items not as ['B01' 'B02']: 1 (session skipped); line 7"),
        ("['B01'],,UK", f"an item or the locale is {BAD_ID}: 1 (session skipped); line 7"),
        ("['B\x001'],B02,UK", f"an item or the locale is {BAD_ID}: 1 (session skipped); line 7"),
        ("['B01'],B02", "not 3 columns: 1 (line skipped); line 7"),
    ],
)
def test_a_malformed_session_is_skipped_and_reported_by_line(tmp_path: Path, line: str, expected: str) -> None:
    raw = write_raw(tmp_path / "raw", sessions=SESSIONS + line + "\n")
    report = convert_amazon_m2(raw, tmp_path / "m2", ["UK"], max_lost=1)
    assert report.fault_text() == [f"sessions_train.csv: {expected}"]
    assert read_atomic(tmp_path / "m2")[0] == INTER_UK


def test_a_product_seen_twice_is_taken_once(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", PRODUCTS + "B02,UK,Other,1,,,,,,,\n,UK,No id,1,,,,,,,\n")
    report = convert_amazon_m2(raw, tmp_path / "m2", ["UK"], max_lost=1)
    assert report.fault_text() == [
        "products_train.csv: product seen before in this locale: 1 (row skipped, first kept); line 8",
        f"products_train.csv: id or locale is {BAD_ID}: 1 (row skipped); line 9",
    ]
    assert read_atomic(tmp_path / "m2")[1] == ITEM_UK


def test_a_locale_that_no_session_has_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no session of uk; its sessions are UK \(3\), DE \(1\)"):
        convert_amazon_m2(write_raw(tmp_path / "raw"), tmp_path / "m2", ["uk"])
    assert not (tmp_path / "m2").exists()
