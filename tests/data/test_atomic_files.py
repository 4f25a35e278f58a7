"""Atomic files as users have them: each fault is told with its line, or is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import load_dataset
from recbole_llmtrsr.data.location import check_dataset_files
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model

EVENTS = [(f"u{user}", f"i{(3 * user + time) % 5}", str(time)) for user in range(4) for time in range(5)]
HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
ITEMS = "item_id:token\ttitle:token_seq\n" + "".join(f"i{n}\tThe title of {n}\n" for n in range(5))


def lines(*events: tuple[str, ...]) -> str:
    return "".join("\t".join(event) + "\n" for event in events)


GOOD = HEADER + lines(*EVENTS)


def targets_of(events: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """All events that have one before them."""
    users = [user for user, *_ in events]
    return [(user, item) for place, (user, item, _) in enumerate(events) if user in users[:place]]


def targets(inter: str | bytes, item: str | bytes = ITEMS, model: str = "TALLRec") -> list[tuple[str, str]]:
    """User and item of all targets, by user and time, as a model reads them from these files."""
    folder = Path("data/toy")
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("inter", inter), ("item", item)):
        (folder / f"toy.{suffix}").write_bytes(content if isinstance(content, bytes) else content.encode())
    model_class = get_model(model)
    config = Config(model_class, "toy", [], {"data_path": "data", "use_gpu": False, "state": "WARNING"})
    check_dataset_files(config)
    dataset = load_dataset(get_dataset(model_class), config)
    dataset._change_feat_format()
    feat = dataset.inter_feat
    named = [
        [str(dataset.field2id_token[field][number]) for number in feat[field].tolist()]
        for field in ("user_id", "item_id")
    ]
    order = sorted(range(len(feat)), key=lambda row: (named[0][row], float(feat["timestamp"][row])))
    return [(named[0][row], named[1][row]) for row in order]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("model", ["TALLRec", "SASRec"])
@pytest.mark.parametrize(
    ("inter", "item"),
    [
        (GOOD, ITEMS),
        ("\ufeff" + GOOD, "\ufeff" + ITEMS),
        (GOOD.replace("\n", "\r\n"), ITEMS.replace("\n", "\r\n")),
        (GOOD.rstrip("\n"), ITEMS.rstrip("\n")),
        (HEADER + lines(*reversed(EVENTS)), ITEMS),
        (GOOD, ITEMS.replace("title of 3", '"title\0 of \u202e3\U0001f469')),
    ],
    ids=["plain", "byte order mark", "lines of Windows", "no last end of line", "out of order", "odd texts"],
)
def test_what_is_no_fault_makes_no_difference(inter: str, item: str, model: str) -> None:
    assert targets(inter, item, model) == targets_of(EVENTS)


def with_first(*event: str) -> str:
    return HEADER + lines(event, *EVENTS[1:])


NO_TIME = r"toy\.inter: 1 of 20 lines have no number as timestamp \(line 2\), so their position in a history is unknown"
NO_TYPES = r"toy\.inter: its first line must give name:type for every column, separated by '\\t'"


@pytest.mark.parametrize(
    ("inter", "message"),
    {
        "empty": ("", r"toy\.inter has no header"),
        "no header": (lines(*EVENTS), f"{NO_TYPES}.* got 'u0'"),
        "header alone": (HEADER, "the .inter file has no usable line"),
        "commas": (GOOD.replace("\t", ","), f"{NO_TYPES}.*got 'user_id:token,item_id:token,timestamp:float'"),
        "blanks": (GOOD.replace("\t", " "), NO_TYPES),
        "no types": (GOOD.replace(":token", "").replace(":float", ""), f"{NO_TYPES}.*got 'user_id'"),
        "a type of others": (GOOD.replace(":float", ":int"), f"{NO_TYPES}.*got 'timestamp:int'"),
        "other names": (
            GOOD.replace("item_id", "sku"),
            r"toy\.inter has no column item_id; its columns are user_id, sku, timest",
        ),
        "a name twice": (GOOD.replace("timestamp", "user_id"), "has two columns user_id"),
        "another encoding": ("\ufeff".encode("utf-16") + GOOD.encode("utf-16-le"), "cannot be read .*save it as UTF-8"),
        "time is no number": (with_first("u0", "i0", "soon"), r"line 2: timestamp must be a number, got 'soon'"),
        "time is nan": (with_first("u0", "i0", "nan"), NO_TIME),
        "time is infinite": (with_first("u0", "i0", "-inf"), NO_TIME),
        "no time": (with_first("u0", "i0", ""), NO_TIME),
        "a column too few": (with_first("u0", "i0"), NO_TIME),
        "a column too many": (HEADER + lines(*EVENTS[:3], (*EVENTS[3], "x"), *EVENTS[4:]), "line 5 has 4 columns"),
        "cut off": (GOOD[:-3], r"1 of 20 lines have no number as timestamp \(line 21\)"),
    }.values(),
)
@pytest.mark.parametrize("model", ["TALLRec", "SASRec"])
def test_a_fault_is_told_with_its_place(inter: str | bytes, message: str, model: str) -> None:
    with pytest.raises(UserError, match=message):
        targets(inter, model=model)


def test_many_lines_without_a_time_are_counted_and_the_first_ones_named() -> None:
    inter = HEADER + lines(*[(user, item, "" if int(time) % 2 else time) for user, item, time in EVENTS])
    with pytest.raises(UserError, match=r"8 of 20 lines have no number as timestamp \(line 3, 5, 8, 10, 13 \.\.\.\)"):
        targets(inter)


def test_events_without_user_or_item_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    inter = HEADER + lines(("", "i0", "0"), *EVENTS[1:-1], (EVENTS[-1][0], "", "9"))
    assert targets(inter) == targets_of(EVENTS[1:-1])
    assert "inter_feat: 1 lines have no user_id and are left out: [2]" in caplog.text
    assert "inter_feat: 1 lines have no item_id and are left out: [21]" in caplog.text


def test_rows_of_items_that_come_again_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    targets(GOOD, ITEMS + "i1\tAnother title\ni2\tA third\n")
    assert "2 lines of the .item file repeat the id of an earlier line and are ignored: lines [7, 8]" in caplog.text
