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


@pytest.fixture(params=RAW)
def convert(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Path]:
    """Converts a tiny raw folder, and tells the folder of the result."""
    raw, out = tmp_path / "raw", tmp_path / "data" / "tiny"
    raw.mkdir()
    options = RAW[request.param](raw)

    def run() -> Path:
        report = CONVERTERS[request.param].convert(raw, out, **options)
        assert report.faults == {}
        return out

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Of a folder, {} where there is none."""
    assert not folder.exists() or any(folder.iterdir())
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def test_a_second_run_gives_the_same_bytes(convert: Callable[[], Path]) -> None:
    first = contents(convert())
    assert contents(convert()) == first
    assert {"tiny.inter", "tiny.item"} <= first.keys()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("has_older", [False, True])
def test_an_interrupted_run_leaves_older_files_or_nothing(
    convert: Callable[[], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException],
    has_older: bool,
) -> None:
    out = tmp_path / "data" / "tiny"
    older = contents(convert()) if has_older else {}
    write, n_rows = AtomicFile.write, 0

    def write_some(self: AtomicFile, *values: str) -> None:
        nonlocal n_rows
        n_rows += 1
        if n_rows == 9:  # two headers, three items, and some events
            raise stop
        write(self, *values)

    monkeypatch.setattr(AtomicFile, "write", write_some)
    with pytest.raises(stop):
        convert()
    assert contents(out) == older


def test_a_full_disk_is_an_error_of_the_user_s(
    convert: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(self: AtomicFile, *values: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AtomicFile, "write", full)
    with pytest.raises(ValueError, match="can not write to --out=.*No space left.*choose a writable folder"):
        convert()
    assert contents(tmp_path / "data" / "tiny") == {}


JUNK = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b'"',
        b"'",
        b",",
        b"::",
        b"|",
        b" ",
    ),
    *(b"{", b"}", b"[", b"]", b"\\", b"NaN", b"null", b"-1", b"1e999", b"9" * 400, b"0x1", b"True", b"[PAD]"),
    *("\u2028\u0085\ud7ff\U0001f469\u202e".encode(), b"i1", b"1"),
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


@pytest.mark.parametrize("name", RAW)
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


def test_recbole_reads_every_event_in_its_order_and_every_text(
    convert: Callable[[], Path], make_config: Callable[..., Any]
) -> None:
    out = convert()
    options = {"data_path": str(out.parent), "item_text_fields": ["title"]}
    columns = ["user_id", "item_id", "timestamp"]
    config = make_config(dataset="tiny", load_col={"inter": columns}, **options)
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    assert [dataset.item_text[item].fields for item in TITLES] == [(("title", title),) for title in TITLES.values()]
    assert len(read_item_text(out / "tiny.item", "item_id").items) == 3
    dataset.build()
    events = dataset.histories
    sequences = {
        tuple(dataset.field2id_token["item_id"][events.items[a : b + 1]]) for a, b in zip(events.begin, events.end)
    }
    assert {tuple(items) for items in USERS.values()} <= sequences


def raw_files(name: str, raw: Path) -> tuple[dict[str, Any], list[Path]]:
    """Writes a converter's tiny source; its options, and the files."""
    raw.mkdir(parents=True, exist_ok=True)
    return RAW[name](raw), sorted(raw.iterdir())


FILES = [(name, place) for name in RAW for place in (0, 1)]


@pytest.mark.parametrize(("name", "place"), FILES)
def test_a_file_that_loses_more_than_is_asked_for_is_refused_and_leaves_nothing(
    name: str, place: int, tmp_path: Path
) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    path, out = paths[place], tmp_path / "data" / "tiny"
    content = path.read_bytes()
    path.write_bytes(content + b"\nspoilt \x00\n")
    with pytest.raises(
        UserError, match=rf"{path.name}: 1 of \d+ rows are malformed and .* line \d+, .*: 'spoilt \\x00'"
    ):
        CONVERTERS[name].convert(tmp_path / "raw", out, **options)
    assert contents(out) == {}
    report = CONVERTERS[name].convert(tmp_path / "raw", out, **options, max_lost=0.5)
    assert [fault.count for fault in report.faults.values()] == [1]
    spoilt = contents(out)
    path.write_bytes(content)
    CONVERTERS[name].convert(tmp_path / "raw", out, **options, max_lost=0)
    assert contents(out) == spoilt


@pytest.mark.parametrize(("name", "place"), FILES)
def test_blank_lines_at_the_end_are_told_and_lose_nothing(name: str, place: int, tmp_path: Path) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    paths[place].write_bytes(paths[place].read_bytes() + b"\n\n\n")
    report = CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "data" / "tiny", **options, max_lost=0)
    assert [fault.count for fault in report.faults.values()] == [2]


@pytest.mark.parametrize("name", RAW)
def test_windows_line_ends_and_a_byte_order_mark_change_nothing(name: str, tmp_path: Path) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "unix" / "tiny", **options)
    for path in paths:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "windows" / "tiny", **options).faults == {}
    assert contents(tmp_path / "windows" / "tiny") == contents(tmp_path / "unix" / "tiny")


MISSING = {
    **{"All.jsonl": "file of reviews", "meta_All.jsonl": r"file meta_All\.json or \.jsonl"},
    "ratings.dat": r"ratings\.csv and no movies\.csv",  # of the newest layout
}


@pytest.mark.parametrize(("name", "place"), FILES)
def test_a_missing_file_or_folder_is_named_with_what_to_give(name: str, place: int, tmp_path: Path) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    paths[place].unlink()
    missing = MISSING.get(paths[place].name, paths[place].name)
    for source, told in (("raw", f"no {missing} in .*raw"), ("nowhere", "no source folder .*nowhere")):
        with pytest.raises(UserError, match=f"^{told}.*: (give the folder of|check the file's name)"):
            CONVERTERS[name].convert(tmp_path / source, tmp_path / "tiny", **options)
    assert contents(tmp_path / "tiny") == {}


@pytest.mark.parametrize("name", RAW)
def test_another_encoding_gives_the_same_files_where_it_is_named(name: str, tmp_path: Path) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    texts = {path: path.read_text().replace("kettle", "Café’s") for path in paths}
    for encoding in ("utf-8", "cp1252"):
        for path, text in texts.items():
            path.write_bytes(text.encode(encoding))
        CONVERTERS[name].convert(
            tmp_path / "raw", tmp_path / encoding / "tiny", **options, encoding=encoding, max_lost=0
        )
    assert "Café’s" in (tmp_path / "utf-8" / "tiny" / "tiny.item").read_text(encoding="utf-8")
    assert contents(tmp_path / "cp1252" / "tiny") == contents(tmp_path / "utf-8" / "tiny")
    if name != "movielens":  # whose archives are of two encodings
        with pytest.raises(UserError, match=r"1 of 3 rows .* not UTF-8, name another --encoding: '.*Caf\\xe9\\x92s"):
            CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "data" / "tiny", **options)


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("encoding", ["utf-16", "utf_32_le", "cp037", "base64", "no such"])
def test_an_encoding_that_cannot_be_read_by_lines_is_refused(name: str, encoding: str, tmp_path: Path) -> None:
    options, _ = raw_files(name, tmp_path / "raw")
    with pytest.raises(UserError, match=f"--encoding={encoding} is not known, or .*: name utf-8, latin-1, cp1252"):
        CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "tiny", **options, encoding=encoding)


@pytest.mark.parametrize(
    ("name", "place", "is_packed"), [(*file, False) for file in FILES] + [("amazon-reviews", 0, True)]
)
def test_a_line_without_an_end_is_refused_before_all_of_it_is_read(
    name: str, place: int, is_packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    monkeypatch.setattr("recbole_llmtrsr.data.prepare.raw._LONGEST_LINE", 2**20)
    content = paths[place].read_bytes() + b"\n" + b"x" * 2**22
    if is_packed:
        paths[place].unlink()
        paths[place] = paths[place].with_name(paths[place].name + ".gz")
        content = gzip.compress(content)
    paths[place].write_bytes(content)
    with pytest.raises(
        UserError, match=r"line \d+ of .* is longer than 1 MiB \(it begins .*\): write one row per line"
    ):
        CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "tiny", **options)
    assert contents(tmp_path / "tiny") == {}


@pytest.mark.parametrize(("name", "place"), FILES)
@pytest.mark.parametrize("is_there", [False, True])
def test_an_empty_file_and_a_folder_in_its_place_are_refused(
    name: str, place: int, is_there: bool, tmp_path: Path
) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    paths[place].unlink()
    if is_there:
        paths[place].write_bytes(b"")
    else:
        paths[place].mkdir()
    with pytest.raises(UserError, match="has no row|must be a file|must have the column|Is a directory|no ratings.csv"):
        CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "tiny", **options)
    assert contents(tmp_path / "tiny") == {}


@pytest.mark.parametrize("name", RAW)
def test_events_of_other_items_than_there_are_texts_of_are_refused(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options, paths = raw_files(name, tmp_path / "raw")
    (path,) = (path for path in paths if "lamp" in path.read_text())
    text = path.read_text()
    path.write_text(text.replace("i1", "1").replace("i2", "I2").replace("i3", "3"))
    with pytest.raises(UserError, match=r"8 of 8 events in .* have no row in .*, such as 'i2', where .* has 'I2'"):
        CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "tiny", **options, max_lost=1)
    assert contents(tmp_path / "tiny") == {}
    path.write_text(text.replace("i1", "1"))
    with caplog.at_level(logging.WARNING):
        CONVERTERS[name].convert(tmp_path / "raw", tmp_path / "tiny", **options)
    assert "2 of 8 events" in caplog.text
    assert "'i1'" in caplog.text


ODD_IDS = (
    *("a b", " a", "a", "a ", "\u00a0", "a\u3000b", " ", '"q"', '"', "'", "#", "#x", "01", "1", "1.0", "1e5", "100000"),
    *(
        "0x10",
        "True",
        " NA",
        "nan ",
        "inf",
        "-",
        "~",
        "a,b",
        "a;b",
        "\\N",
        "\ufeffz",
        "é",
        "e\u0301",
        "\U0001f469",
        "A",
    ),
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
