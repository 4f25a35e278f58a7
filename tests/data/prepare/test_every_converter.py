"""What holds for all converters: the same bytes again, whole files or none, and RecBole reads what is written."""

from __future__ import annotations

import gzip
import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr.data.atomic_files import check_lines, header_fault
from recbole_llmtrsr.data.item_text import read_item_text
from recbole_llmtrsr.data.prepare import CONVERTERS
from recbole_llmtrsr.data.prepare.atomic import AtomicFile
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model

TITLES = {"i1": 'A "red" kettle', "i2": "A lamp", "i3": "A rug"}
USERS = {"1": ["i1", "i2", "i3"], "2": ["i2", "i3", "i1"], "3": ["i3", "i2"]}


def write_mind(raw: Path) -> dict[str, Any]:
    rows = [
        f"{u}\tu{u}\t11/12/2019 2:14:46 PM\t{' '.join(items[:-1])}\t{items[-1]}-1 i9-0" for u, items in USERS.items()
    ]
    (raw / "behaviors.tsv").write_text("\n".join(rows))
    (raw / "news.tsv").write_text("\n".join(f"{item}\tnews\tx\t{title}\t\t\t\t" for item, title in TITLES.items()))
    return {}


def write_m2(raw: Path) -> dict[str, Any]:
    rows = [f'"{items[:-1]}",{items[-1]},UK' for items in USERS.values()]
    (raw / "sessions_train.csv").write_text("\n".join(["prev_items,next_item,locale", *rows]))
    quoted = {item: title.replace('"', '""') for item, title in TITLES.items()}
    rows = [f'{item},UK,"{title}",,,,,,,,' for item, title in quoted.items()]
    header = "id,locale,title,price,brand,color,size,model,material,author,desc"
    (raw / "products_train.csv").write_text("\n".join([header, *rows]))
    return {"locale": ["UK"]}


def write_reviews(raw: Path) -> dict[str, Any]:
    events = [(user, item, time) for user, items in USERS.items() for time, item in enumerate(items)]
    lines = [{"user_id": u, "parent_asin": i, "rating": 5.0, "timestamp": t * 1000} for u, i, t in events]
    (raw / "All.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (raw / "meta_All.jsonl").write_text(
        "\n".join(json.dumps({"parent_asin": item, "title": title}) for item, title in TITLES.items())
    )
    return {"k_core": 2}


def write_movies(raw: Path) -> dict[str, Any]:
    rows = [f"{user}::{item}::5::{time}" for user, items in USERS.items() for time, item in enumerate(items)]
    (raw / "ratings.dat").write_text("\n".join(rows))
    (raw / "movies.dat").write_text("\n".join(f"{item}::{title}::Drama" for item, title in TITLES.items()))
    return {}


def write_table(raw: Path) -> dict[str, Any]:
    rows = [f"{user}\t{item}" for user, items in USERS.items() for item in items]
    (raw / "events.tsv").write_text("\n".join(["u\ti", *rows]))
    (raw / "items.tsv").write_text("\n".join(["i\ttitle", *(f"{item}\t{title}" for item, title in TITLES.items())]))
    return {"interactions": "events.tsv", "items": "items.tsv", "user": "u", "item": "i", "text": ["title"]}


RAW: dict[str, Callable[[Path], dict[str, Any]]] = {
    "mind": write_mind,
    "amazon-m2": write_m2,
    "amazon-reviews": write_reviews,
    "movielens": write_movies,
    "table": write_table,
}


def test_every_converter_is_tested_here() -> None:
    assert list(RAW) == list(CONVERTERS)


class Source:
    """A converter's tiny source folder, in ``folder / "raw"``; its ``paths`` are the files."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder, self._name = folder, name
        (folder / "raw").mkdir()
        self._options = RAW[name](folder / "raw")
        self.paths = sorted((folder / "raw").iterdir())

    def convert(self, out: str = "data/tiny", source: str = "raw", **options: Any) -> Report:
        return CONVERTERS[self._name].convert(self.folder / source, self.folder / out, **self._options, **options)

    def contents(self, out: str = "data/tiny") -> dict[str, bytes]:
        """What was written, {} where there is no folder."""
        folder = self.folder / out
        assert not folder.exists() or any(folder.iterdir())
        return {path.name: path.read_bytes() for path in folder.glob("*")}


@pytest.fixture(params=RAW)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def source(name: str, tmp_path: Path) -> Source:
    return Source(name, tmp_path)


@pytest.fixture(params=[0, 1])
def path(request: pytest.FixtureRequest, source: Source) -> Path:
    """One of the source's files."""
    return source.paths[request.param]


def test_a_second_run_gives_the_same_bytes(source: Source) -> None:
    assert source.convert().faults == {}
    first = source.contents()
    source.convert()
    assert source.contents() == first
    assert {"tiny.inter", "tiny.item"} <= first.keys()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("has_older", [False, True])
def test_an_interrupted_run_leaves_older_files_or_nothing(
    source: Source, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException], has_older: bool
) -> None:
    if has_older:
        source.convert()
    older, write, n_rows = source.contents(), AtomicFile.write, 0

    def write_some(self: AtomicFile, *values: str) -> None:
        nonlocal n_rows
        n_rows += 1
        if n_rows == 9:  # two headers, three items, and some events
            raise stop
        write(self, *values)

    monkeypatch.setattr(AtomicFile, "write", write_some)
    with pytest.raises(stop):
        source.convert()
    assert source.contents() == older


def test_a_full_disk_is_an_error_of_the_user_s(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: AtomicFile, *values: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AtomicFile, "write", full)
    with pytest.raises(UserError, match="cannot write to --out=.*No space left.*choose a writable folder"):
        source.convert()
    assert source.contents() == {}


JUNK = [
    *rb"""\ { } [ ] ' " , :: | NaN null -1 1e999 0x1 True [PAD] i1 1""".split(),
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\t", b"\n", b"\r", b"\r\n", b" ", b"9" * 400),
    "\u2028\u0085\ud7ff\U0001f469\u202e".encode(),
]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Content with a few bytes changed, cut, moved or put in between."""
    for _ in range(chance.randint(1, 4)):
        lines, place = content.split(b"\n"), chance.randrange(len(content) + 1)
        end = min(len(content), place + chance.choice([1, 1, 1, 5, 40]))
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        content = chance.choice(
            [
                content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :],
                content[:place] + content[end:],
                content[:place] + chance.choice(JUNK) + content[place:],
                content[:place] + chance.choice(JUNK) + content[end:],
                content[:place],
                b"\n".join([*lines[:one], *lines[other:]]),
                b"\n".join([*lines[: one + 1], *lines[one:]]),
                content[:place] + content[place:end] * 3 + content[end:],
            ]
        )
    return content


def test_of_damaged_files_what_can_be_read_becomes_sound_files_and_the_rest_is_told(name: str, tmp_path: Path) -> None:
    chance, n_sound, n_told = random.Random(name), 0, 0
    for number in range(300):
        raw, out = tmp_path / "raw" / str(number), tmp_path / "data" / str(number)
        raw.mkdir(parents=True)
        options = RAW[name](raw)
        path = chance.choice(sorted(raw.iterdir()))
        path.write_bytes(damaged(path.read_bytes(), chance))
        try:
            report = CONVERTERS[name].convert(raw, out, **options, max_lost=1)
        except UserError:
            assert not out.exists()
            n_told += 1
            continue
        n_told += bool(report.faults)
        inter, item = out / f"{number}.inter", out / f"{number}.item"
        assert header_fault(inter, ("user_id", "item_id", "timestamp"), "\t", "utf-8") is None
        check_lines(inter, "\t", "utf-8")
        times = [line.split("\t")[2] for line in inter.read_text(encoding="utf-8").split("\n")[1:-1]]
        assert times
        assert all(abs(float(time)) < 1e300 for time in times)
        assert read_item_text(item, "item_id").ragged_lines == ()
        n_sound += 1
    assert n_sound > 30
    assert n_told > 30


def test_recbole_reads_every_event_in_its_order_and_every_text(source: Source, make_config: Callable[..., Any]) -> None:
    source.convert()
    data_path = source.folder / "data"
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    config = make_config(load_col=columns, data_path=str(data_path), item_text_fields=["title"])
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    assert [dataset.item_text[item].fields for item in TITLES] == [(("title", title),) for title in TITLES.values()]
    assert len(read_item_text(data_path / "tiny" / "tiny.item", "item_id").items) == 3
    dataset.build()
    events = dataset.histories
    sequences = {
        tuple(dataset.field2id_token["item_id"][events.items[a : b + 1]]) for a, b in zip(events.begin, events.end)
    }
    assert {tuple(items) for items in USERS.values()} <= sequences


def test_a_file_that_loses_more_than_is_asked_for_is_refused_and_leaves_nothing(source: Source, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content + b"\nspoilt \x00\n")
    message = rf"{path.name}: 1 of \d+ rows are malformed and .* line \d+, .*: 'spoilt \\x00'"
    with pytest.raises(UserError, match=message):
        source.convert()
    assert source.contents() == {}
    report = source.convert(max_lost=0.5)
    assert [fault.count for fault in report.faults.values()] == [1]
    spoilt = source.contents()
    path.write_bytes(content)
    source.convert(max_lost=0)
    assert source.contents() == spoilt


def test_blank_lines_at_the_end_are_told_and_lose_nothing(source: Source, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n\n\n")
    assert [fault.count for fault in source.convert(max_lost=0).faults.values()] == [2]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(source: Source) -> None:
    source.convert("unix/tiny")
    for path in source.paths:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert source.convert("windows/tiny").faults == {}
    assert source.contents("windows/tiny") == source.contents("unix/tiny")


MISSING = {
    **{"All.jsonl": "file of reviews", "meta_All.jsonl": r"file meta_All\.json or \.jsonl"},
    "ratings.dat": r"ratings\.csv and no movies\.csv",  # of the newest layout
}


def test_a_missing_file_or_folder_is_named_with_what_to_give(source: Source, path: Path) -> None:
    path.unlink()
    for folder, told in (
        ("raw", f"no {MISSING.get(path.name, path.name)} in .*raw"),
        ("nowhere", "no source folder .*nowhere"),
    ):
        with pytest.raises(UserError, match=f"^{told}.*: (give the folder of|check the file's name)"):
            source.convert(source=folder)
    assert source.contents() == {}


def test_another_encoding_gives_the_same_files_where_it_is_named(name: str, source: Source) -> None:
    texts = {path: path.read_text().replace("kettle", "Café’s") for path in source.paths}
    for encoding in ("utf-8", "cp1252"):
        for path, text in texts.items():
            path.write_bytes(text.encode(encoding))
        source.convert(f"{encoding}/tiny", encoding=encoding, max_lost=0)
    assert "Café’s".encode() in source.contents("utf-8/tiny")["tiny.item"]
    assert source.contents("cp1252/tiny") == source.contents("utf-8/tiny")
    if name != "movielens":  # whose archives are of two encodings
        with pytest.raises(UserError, match=r"1 of 3 rows .* not UTF-8, name another --encoding: '.*Caf\\xe9\\x92s"):
            source.convert()


@pytest.mark.parametrize("encoding", ["utf-16", "utf_32_le", "cp037", "base64", "no such"])
def test_an_encoding_that_cannot_be_read_by_lines_is_refused(source: Source, encoding: str) -> None:
    with pytest.raises(UserError, match=f"--encoding={encoding} is not known, or .*: name utf-8, latin-1, cp1252"):
        source.convert(encoding=encoding)


@pytest.mark.parametrize(
    ("name", "path", "is_packed"),
    [*((name, place, False) for name in RAW for place in (0, 1)), ("amazon-reviews", 0, True)],
    indirect=["name", "path"],
)
def test_a_line_without_an_end_is_refused_before_all_of_it_is_read(
    source: Source, path: Path, is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_llmtrsr.data.prepare.raw._LONGEST_LINE", 2**20)
    content = path.read_bytes() + b"\n" + b"x" * 2**22
    if is_packed:
        path.unlink()
        path, content = path.with_name(path.name + ".gz"), gzip.compress(content)
    path.write_bytes(content)
    message = r"line \d+ of .* is longer than 1 MiB \(it begins .*\): write one row per line"
    with pytest.raises(UserError, match=message):
        source.convert()
    assert source.contents() == {}


@pytest.mark.parametrize("is_there", [False, True])
def test_an_empty_file_and_a_folder_in_its_place_are_refused(source: Source, path: Path, is_there: bool) -> None:
    path.unlink()
    if is_there:
        path.write_bytes(b"")
    else:
        path.mkdir()
    with pytest.raises(UserError, match="has no row|must be a file|must have the column|Is a directory|no ratings.csv"):
        source.convert()
    assert source.contents() == {}


def test_events_of_other_items_than_there_are_texts_of_are_refused(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = (path for path in source.paths if "lamp" in path.read_text())
    text = path.read_text()
    path.write_text(text.replace("i1", "1").replace("i2", "I2").replace("i3", "3"))
    with pytest.raises(UserError, match=r"8 of 8 events in .* have no row in .*, such as 'i2', where .* has 'I2'"):
        source.convert(max_lost=1)
    assert source.contents() == {}
    path.write_text(text.replace("i1", "1"))
    with caplog.at_level(logging.WARNING):
        source.convert()
    assert "2 of 8 events" in caplog.text
    assert "'i1'" in caplog.text


ODD_IDS = (
    *("a b", " a", "a", "a ", "\u00a0", "a\u3000b", " ", " NA", "nan ", "\ufeffz", "e\u0301", "\U0001f469"),
    *('"q"', '"', "'", "#", "#x", "01", "1", "1.0", "1e5", "100000", "0x10", "True", "inf", "-", "~", "a,b", "a;b"),
    *("\\N", "é", "A"),
)


def test_recbole_reads_every_id_that_is_kept_as_it_stands(tmp_path: Path, make_config: Callable[..., Any]) -> None:
    ids, out = [*ODD_IDS, "NA", "[PAD]", "a\tb", "a\nb", "a\x00b", ""], tmp_path / "data" / "odd"
    events = [{"u": user, "i": ids[(n + place) % len(ids)]} for n, user in enumerate(ids) for place in range(3)]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "i.jsonl").write_text("".join(json.dumps({"i": item, "t": "x"}) + "\n" for item in ids))
    names = {"interactions": "e.jsonl", "items": "i.jsonl", "user": "u", "item": "i", "text": ["t"]}
    report = CONVERTERS["table"].convert(tmp_path, out, **names, max_lost=0.5)
    assert [entry.count for entry in report.faults.values()] == [6, 3 * 6 + 3]
    config = make_config(dataset="odd", data_path=str(out.parent), item_text_fields=["t"])
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    for column in ("user_id", "item_id"):
        assert set(dataset.field2id_token[column]) == {"[PAD]", *ODD_IDS}
        assert [dataset.field2id_token[column][dataset.token2id(column, name)] for name in ODD_IDS] == [*ODD_IDS]
    assert set(read_item_text(out / "odd.item", "item_id").items) == set(ODD_IDS)
