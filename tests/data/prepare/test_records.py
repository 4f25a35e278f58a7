"""Tables of any form: the same rows, whatever the file."""

from __future__ import annotations

import datetime
import gzip
import sys
from pathlib import Path

import pytest

from recbole_llmtrsr.data.prepare.records import as_text, read_records
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

ROWS = [("a1", 'Say "hi"', "3"), ("a2", "", "4"), ("a3", "Größe", "5")]
EXPECTED = [(['Say "hi"', "a1"]), (["", "a2"]), (["Größe", "a3"])]
CSV = 'id,title,n\na1,"Say ""hi""",3\na2,,4\na3,Größe,5\n'
TSV = 'id\ttitle\tn\na1\tSay "hi"\t3\na2\t\t4\na3\tGröße\t5\n'
JSON = '{"id": "a1", "title": "Say \\"hi\\"", "n": 3}\n{"id": "a2", "title": null}\n{"title": "Größe", "id": "a3"}\n'


@pytest.mark.parametrize(
    ("name", "text", "first_line"),
    [("t.csv", CSV, 2), ("t.tsv", TSV, 2), ("t.jsonl", JSON, 1), ("t.ndjson", JSON, 1), ("t.json", JSON, 1)],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str, text: str, first_line: int, is_packed: bool) -> None:
    path = tmp_path / (f"{name}.gz" if is_packed else name)
    path.write_bytes(gzip.compress(text.encode()) if is_packed else text.encode())
    report = Report("")
    assert list(read_records(path, ["title", "id"], report)) == list(enumerate(EXPECTED, start=first_line))
    assert report.faults == {}


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    # Today's pyarrow refuses NumPy below 2.
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    parquet = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)
    table = pyarrow.table({"id": ["a1", "a2", "a3"], "title": ['Say "hi"', None, "Größe"], "n": [3, None, 5]})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert list(read_records(tmp_path / "t.parquet", ["title", "id"], Report(""))) == list(enumerate(EXPECTED, start=1))
    assert [row for _, row in read_records(tmp_path / "t.parquet", ["n"], Report(""))] == [["3"], [""], ["5"]]
    with pytest.raises(UserError, match="has no column titel, it has id, title, n"):
        list(read_records(tmp_path / "t.parquet", ["titel"], Report("")))
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="cannot read .*t.parquet"):
        list(read_records(tmp_path / "t.parquet", ["id"], Report("")))


def test_parquet_without_pyarrow_is_an_error_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"reading .*t.parquet needs pyarrow .*: pip install pyarrow"):
        list(read_records(tmp_path / "t.parquet", ["id"], Report("")))


def test_an_unknown_form_lists_the_accepted(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"")
    with pytest.raises(UserError, match=r"form of .*t.xlsx is unknown: accepted are \.csv"):
        read_records(tmp_path / "t.xlsx", ["id"], Report(""))


def test_a_key_that_no_line_has_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(JSON)
    with pytest.raises(UserError, match="no line of .*t.jsonl has titel, only id, title, n: wanted are id, titel"):
        list(read_records(tmp_path / "t.jsonl", ["id", "titel"], Report("")))


def test_a_list_an_object_or_a_truth_value_is_no_id(tmp_path: Path) -> None:
    values = '["a"]', '{"a": 1}', "true", "null", "1", "1.5", '"a b"'
    (tmp_path / "t.jsonl").write_text("".join(f'{{"id": {value}, "text": {value}}}\n' for value in values))
    rows = [row for _, row in read_records(tmp_path / "t.jsonl", ["id", "text"], Report(""), ids=["id"])]
    assert [name for name, _ in rows] == ["", "", "", "", "1", "1.5", "a b"]
    assert [text for _, text in rows] == ["a", '{"a": 1}', "True", "", "1", "1.5", "a b"]


def test_a_list_of_objects_gives_one_row_for_each(tmp_path: Path) -> None:
    lines = """{'user': 'u 1', 'n': 2, 'items': [{'id': '10'}, {'id': '20'}]}\n{'user': 'u2', 'n': 0, 'items': []}\n"""
    (tmp_path / "t.json.gz").write_bytes(gzip.compress((lines + "{'user': 'u3', 'items': [{'id': 5}, 7]}").encode()))
    report = Report("")
    rows = read_records(tmp_path / "t.json.gz", ["user", "items.id"], report, ids=["user", "items.id"])
    assert list(rows) == [(1, ["u 1", "10"]), (1, ["u 1", "20"]), (3, ["u3", "5"]), (3, ["u3", ""])]
    assert report.notes["t.json.gz: lines without items"] == 1
    with pytest.raises(UserError, match=r"no line of .* has items\.sku, only user, n, items\.id: wanted are"):
        list(read_records(tmp_path / "t.json.gz", ["user", "items.sku"], Report(""), ids=["user", "items.sku"]))


def test_texts_in_a_list_of_objects_are_joined(tmp_path: Path) -> None:
    lists = "[]", '[{"name": "oak"}]', '[{"name": "oak"}, {"size": 2}, {"name": "old"}]', '"none"'
    (tmp_path / "t.jsonl").write_text("".join(f'{{"id": {i}, "tags": {tags}}}\n' for i, tags in enumerate(lists)))
    rows = read_records(tmp_path / "t.jsonl", ["id", "tags.name"], Report(""), ids=["id"])
    assert [row for _, row in rows] == [["0", ""], ["1", "oak"], ["2", "oak, old"], ["3", ""]]
    with pytest.raises(UserError, match=r"no line of .* has tags\.nmae, only id, tags, tags\.name, tags\.size: wanted"):
        list(read_records(tmp_path / "t.jsonl", ["id", "tags.nmae"], Report(""), ids=["id"]))


def test_texts_beside_an_id_in_its_list_stay_with_it(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"tags": [{"t": "a"}, {"t": "b"}], "items": [{"id": 1, "n": "x"}, {"id": 2}]}')
    rows = read_records(tmp_path / "t.jsonl", ["items.id", "items.n", "tags.t"], Report(""), ids=["items.id"])
    assert [row for _, row in rows] == [["1", "x", "a, b"], ["2", "", "a, b"]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", ["b", None], 3], "a, b, 3"),
        ({"a": "ö"}, '{"a": "ö"}'),
        (True, "True"),
        (b"id\xff", "id\\xff"),
        (datetime.datetime(2020, 1, 2, 3), "2020-01-02T03:00:00"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
    ],
)
def test_values_become_texts(value: object, expected: str) -> None:
    assert as_text(value) == expected
