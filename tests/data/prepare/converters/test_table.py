"""Any pair of tables to atomic files: literal tables, literal result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from toy import read_atomic

from recbole_llmtrsr.data.prepare.atomic import BAD_ID
from recbole_llmtrsr.data.prepare.converters.table import convert_table, seconds
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

REAL = Path(__file__).parents[4].parent / "shared" / "data" / "movielens-tmdb"

EVENTS = """\
when,who,what,stars,shop
1600000002.5,u1,i2,4,A
1600000001,u1,i1,5,A
1600000009,u2,i9,3.5,B
"""
ITEMS = """\
{"what": "i1", "title": "Kettle\\n1.7 l", "tags": ["steel", "kitchen"]}
{"what": "i2", "title": "Lamp"}
{"what": 3, "title": null}
"""
INTER = """\
user_id:token\titem_id:token\trating:float\ttimestamp:float
u1\ti2\t4\t1600000002.5
u1\ti1\t5\t1600000001
u2\ti9\t3.5\t1600000009
"""
ITEM = """\
item_id:token\ttags:token_seq\ttitle:token_seq
i1\tsteel, kitchen\tKettle 1.7 l
i2\t\tLamp
3\t\t
"""


def convert(tmp_path: Path, events: str = EVENTS, items: str = ITEMS, **options: Any) -> Report:
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    (raw / "events.csv").write_text(events)
    (raw / "items.jsonl").write_text(items)
    names = {"interactions": "events.csv", "items": "items.jsonl", "user": "who", "item": "what"}
    given = {**names, "time": "when", "rating": "stars", "text": ["tags", "title"], "max_lost": 1, **options}
    return convert_table(raw, tmp_path / "own", **given)


def events_of(*times: str) -> str:
    return "who,what,when\n" + "".join(f"u1,i1,{time}\n" for time in times)


def times_of(tmp_path: Path) -> list[str]:
    return [line.split("\t")[2] for line in read_atomic(tmp_path / "own")[0].splitlines()[1:]]


def test_the_named_columns_become_atomic_files(tmp_path: Path) -> None:
    report = convert(tmp_path)
    assert read_atomic(tmp_path / "own") == (INTER, ITEM)
    assert report.faults == {}
    assert report.counts == {
        "users": 2,
        "items with an event": 3,
        "events": 3,
        "events of items without a row (kept)": 1,
        "items": 3,
        "items without an event (in .item)": 1,
        "items without any text": 1,
    }


def test_without_times_the_order_of_the_rows_is_that_of_each_user(tmp_path: Path) -> None:
    convert(tmp_path, time=None, rating=None)
    assert read_atomic(tmp_path / "own")[0] == (
        "user_id:token\titem_id:token\ttimestamp:float\nu1\ti2\t0\nu1\ti1\t1\nu2\ti9\t0\n"
    )


def test_the_items_may_call_their_id_otherwise(tmp_path: Path) -> None:
    convert(tmp_path, items=ITEMS.replace('"what"', '"sku"'), items_id="sku")
    assert read_atomic(tmp_path / "own") == (INTER, ITEM)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-09-13T12:26:40Z", "1600000000"),
        ("2020-09-13 12:26:40", "1600000000"),
        ("2020-09-13T14:26:40.123456789+02:00", "1600000000.123456"),
        ("2020-09-13T12:26:40,5", "1600000000.5"),
        ("2020-09-13", "1599955200"),
        ("1969-12-31T23:59:58.5Z", "-1.5"),
        ("1970-01-01", "0"),
        ("13.9.2020", None),
        ("now", None),
        ("", None),
    ],
)
def test_iso_times_become_seconds(text: str, expected: str | None) -> None:
    assert seconds(text) == expected


def test_events_of_one_second_keep_apart_in_iso_times(tmp_path: Path) -> None:
    convert(tmp_path, events_of("2020-09-13T12:26:40.000002Z", "2020-09-13T12:26:40.000001Z"), rating=None)
    assert [float(time) for time in times_of(tmp_path)] == [1600000000.000002, 1600000000.000001]


@pytest.mark.parametrize(("first", "other"), [("5", "2020-09-13"), ("2020-09-13", "5")])
def test_times_have_the_form_of_the_first(tmp_path: Path, first: str, other: str) -> None:
    report = convert(tmp_path, events_of("soon", first, other), rating=None)
    assert len(times_of(tmp_path)) == 1
    assert report.fault_text() == [
        "events.csv: when is no number or time of ISO 8601: 1 (row skipped); line 2",
        "events.csv: when is no time of the first row's form: 1 (row skipped); line 4",
    ]


@pytest.mark.parametrize(
    ("first", "other", "wrong"),
    [
        ("5", "2020-09-13", "no time of the first row's form"),
        ("2020-09-13", "5", "no time of the first row's form"),
        ("1600000000", "1600000000001", "in milliseconds, in an earlier row in seconds"),
        ("1600000000000000", "1600000000001", "in milliseconds, in an earlier row in microseconds"),
    ],
)
def test_a_first_time_of_another_form_does_not_take_the_rest_away(
    tmp_path: Path, first: str, other: str, wrong: str
) -> None:
    expected = f"events.csv: 2 of 3 rows are malformed .* The first is line 3, when is {wrong}: 'u1, i1, {other}'"
    with pytest.raises(UserError, match=expected):
        convert(tmp_path, events_of(first, other, other), rating=None, max_lost=0.6)
    assert not (tmp_path / "own").exists()


def test_a_time_of_another_unit_is_skipped_and_negative_ones_are_counted(tmp_path: Path) -> None:
    report = convert(tmp_path, events_of("0", "1600000000", "1600000000001", "-7", "1600000002"), rating=None)
    assert times_of(tmp_path) == ["0", "1600000000", "-7", "1600000002"]
    assert report.fault_text() == [
        "events.csv: when is in milliseconds, in an earlier row in seconds: 1 (row skipped); line 4"
    ]
    assert report.notes == {"events with a negative time (kept)": 1}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("5,,i1,4,A", f"who or what is {BAD_ID}: 1 (row skipped); line 5"),
        ("5,null,i1,4,A", f"who or what is {BAD_ID}: 1 (row skipped); line 5"),
        ("5,u1,i\x001,4,A", f"who or what is {BAD_ID}: 1 (row skipped); line 5"),
        ("5,u1,i1,four,A", "stars is no number: 1 (row skipped); line 5"),
        (",u1,i1,4,A", "when is missing: 1 (row skipped); line 5"),
        ("5,u1,i1,4", "not 5 columns: 1 (line skipped); line 5"),
    ],
)
def test_a_malformed_event_is_skipped_and_reported_by_line(tmp_path: Path, line: str, expected: str) -> None:
    report = convert(tmp_path, EVENTS + line + "\n")
    assert report.fault_text() == [f"events.csv: {expected}"]
    assert read_atomic(tmp_path / "own")[0] == INTER


def test_an_item_seen_twice_or_without_an_id_is_skipped_and_reported(tmp_path: Path) -> None:
    report = convert(tmp_path, items=ITEMS + '{"what": "i2", "title": "Other"}\n{"title": "No id"}\n')
    assert report.fault_text() == [
        "items.jsonl: what seen before: 1 (row skipped, first kept); line 4",
        f"items.jsonl: what is {BAD_ID}: 1 (row skipped); line 5",
    ]
    assert read_atomic(tmp_path / "own")[1] == ITEM


def test_a_column_that_a_file_lacks_is_an_error_that_names_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"events\.csv must have the column user once, it has when, who, what, stars, shop"
    ):
        convert(tmp_path, user="user")
    with pytest.raises(UserError, match=r"no line of .*items\.jsonl has name, only what, title, tags"):
        convert(tmp_path, text=["name"])
    with pytest.raises(UserError, match=r"no line of .*items\.jsonl has sku, only what, title, tags"):
        convert(tmp_path, items_id="sku", max_lost=0)
    assert not (tmp_path / "own").exists()


def test_names_of_text_columns_fit_into_the_header(tmp_path: Path) -> None:
    convert(tmp_path, items='{"what": "i1", "product: name": "Kettle"}\n', text=["product: name"])
    assert read_atomic(tmp_path / "own")[1] == "item_id:token\tproduct_name:token_seq\ni1\tKettle\n"


@pytest.mark.parametrize("text", [["a b", "a:b"], ["item_id"], []])
def test_text_columns_of_one_name_or_none_are_refused(tmp_path: Path, text: list[str]) -> None:
    with pytest.raises(UserError, match=f"--text={','.join(text)} gives the columns item_id"):
        convert(tmp_path, text=text)


@pytest.mark.parametrize(
    "part", [{"events": "when,who,what,stars,shop\n"}, {"items": '{"what": "", "title": "a", "tags": 1}\n'}]
)
def test_a_table_without_a_valid_row_is_an_error_and_leaves_nothing(tmp_path: Path, part: dict[str, str]) -> None:
    with pytest.raises(UserError, match="has no row: it is empty|1 of 1 rows are malformed"):
        convert(tmp_path, **part)
    assert not (tmp_path / "own").exists()


def test_items_without_any_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no item of .*items\.jsonl has a text in tags, title: name other columns"):
        convert(tmp_path, items='{"what": "i1", "title": " ", "tags": []}\n')
    assert not (tmp_path / "own").exists()


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data missing: {REAL}")
def test_real_tables_come_out_as_they_went_in(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    tables = {suffix: (REAL / f"movielens-tmdb.{suffix}").read_bytes() for suffix in ("inter", "item")}
    for suffix, content in tables.items():
        (raw / f"{suffix}.tsv").write_bytes(content)
    report = convert_table(
        raw,
        tmp_path / "own",
        interactions="inter.tsv",
        items="item.tsv",
        user="user_id:token",
        item="item_id:token",
        rating="rating:float",
        time="timestamp:float",
        text=["title:token_seq", "genres:token_seq", "overview:token_seq"],
    )
    assert report.faults == {}
    counts = ("users", "items with an event", "events", "items")
    assert [report.counts[count] for count in counts] == [610, 9_724, 100_836, 9_742]
    # All but the header, whose types were taken for a part of the names.
    written = [text.split("\n", 1)[1] for text in read_atomic(tmp_path / "own")]
    assert written == [content.decode().split("\n", 1)[1] for content in tables.values()]


def test_times_without_a_zone_are_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert seconds("2020-09-13 12:26:40") == "1600000000"
    finally:
        monkeypatch.undo()
        time.tzset()
