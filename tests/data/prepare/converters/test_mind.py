"""MIND's raw files to atomic files: literal raw folder (6 users, 9 news), literal result."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import read_atomic

from recbole_llmtrsr.data.candidates.candidate_file import read_candidate_file
from recbole_llmtrsr.data.prepare.atomic import BAD_ID
from recbole_llmtrsr.data.prepare.converters.mind import convert_mind
from recbole_llmtrsr.errors import UserError

REAL = Path(__file__).parents[4].parent / "shared" / "data" / "mind_small_5k"

# u3's second line tells of one more click; u4 clicks without a history; u5 has a history only; u6 has no event.
# u1's lines are not in order of time: 9 PM comes before 10 AM of the next day, and 12 AM before 1 AM.
BEHAVIORS = """\
1\tu1\t11/12/2019 10:00:00 AM\tn1 n2 n1\tn4-0 n5-1 n3-1
2\tu2\t11/9/2019 1:00:00 AM\tn2\tn6-1 n7-0
3\tu1\t11/11/2019 9:00:00 PM\tn1 n2 n1\tn6-1
4\tu3\t11/13/2019 5:53:12 AM\tn3\tn4-1
5\tu2\t11/9/2019 12:30:00 AM\tn2\tn9-1
6\tu3\t11/13/2019 5:53:12 AM\tn3 n2\tn7-1 n1-0
7\tu4\t11/14/2019 2:14:46 PM\t\tn404-1
8\tu5\t11/14/2019 2:14:46 PM\tn7 n8\tn9-0
9\tu6\t11/14/2019 2:14:46 PM\t\tn9-0
"""
INTER = """\
user_id:token\titem_id:token\ttimestamp:float\tfrom_impression:float
u1\tn1\t0\t0
u1\tn2\t1\t0
u1\tn1\t2\t0
u1\tn6\t3\t1
u1\tn5\t4\t1
u1\tn3\t5\t1
u2\tn2\t0\t0
u2\tn9\t1\t1
u2\tn6\t2\t1
u3\tn3\t0\t0
u3\tn4\t1\t1
u3\tn2\t2\t0
u3\tn7\t3\t1
u4\tn404\t0\t1
u5\tn7\t0\t0
u5\tn8\t1\t0
"""
NEWS = """\
n1\tsports\tgolf\tThe "Masters" in 2019\t"Amen" corner\thttps://x/1\t[]\t[]
n2\tnews\t\tSalt &amp; sugar\t\thttps://x/2\t[]\t[]
n3\tnews\tworld\tÅland, 東京, می\u200cخواهم\tHe said: "no\thttps://x/3\t[]\t[]
n4\thealth\t\tTwo  spaces and\u00a0one\tCut\u2028here\u0085and\x0bthere\thttps://x/4\t[]\t[]
n5\thealth\tdiet\tLone\rreturn\tNA\thttps://x/5\t[]\t[]
n6\tautos\t\tplain\t\thttps://x/6\t[]\t[]
n7\tautos\t\tnul\x00and\x1cfile separator \t\thttps://x/7\t[]\t[]
n8\ttv\t\t\t\t\t\t
n9\ttv\tshow\tlast\tabstract\thttps://x/9\t[{"Label": "x"}]\t[]
"""
ITEM = """\
item_id:token\tcategory:token\tsubcategory:token\ttitle:token_seq\tabstract:token_seq
n1\tsports\tgolf\tThe "Masters" in 2019\t"Amen" corner
n2\tnews\t\tSalt &amp; sugar\t
n3\tnews\tworld\tÅland, 東京, می\u200cخواهم\tHe said: "no
n4\thealth\t\tTwo spaces and one\tCut here and there
n5\thealth\tdiet\tLone return\tNA
n6\tautos\t\tplain\t
n7\tautos\t\tnul and file separator\t
n8\ttv\t\t\t
n9\ttv\tshow\tlast\tabstract
"""


def write_raw(folder: Path, behaviors: str = BEHAVIORS, news: str = NEWS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "behaviors.tsv").write_bytes(behaviors.encode())
    (folder / "news.tsv").write_bytes(news.encode())
    return folder


def test_history_comes_first_then_clicks_by_time_and_every_news_item_is_one_line(tmp_path: Path) -> None:
    report = convert_mind(write_raw(tmp_path / "raw"), tmp_path / "mind")
    assert read_atomic(tmp_path / "mind") == (INTER, ITEM)
    assert report.counts == {
        "users": 6,
        "users with an empty history": 2,
        "users without any event (not in .inter)": 1,
        "users whose lines differ in history (joined by time)": 1,
        "events": 16,
        "history events": 8,
        "impression clicks": 8,
        "events of news without a line (kept)": 1,
        "impressions": 9,
        "impression entries": 13,
        "impressions without a click (no candidate set)": 2,
        "impressions with several clicks": 1,
        "impressions with nothing but clicks": 4,
        "impressions whose clicks are the user's first events (no history)": 1,
        "impression entries repeated within an impression (one kept)": 0,
        "news clicked and not clicked in one impression (clicked taken)": 0,
        "candidates of news without a line (kept)": 1,
        "news": 9,
        "clicked news": 10,
        "clicked news without a line": 1,
        "text fields with white space or control characters changed": 4,
    }
    assert report.faults == {}


def test_no_impression_follows_what_only_a_later_line_knows(tmp_path: Path) -> None:
    """Training and validation lines of one user, the later first: its history tells of the earlier clicks, and more."""
    behaviors = (
        "1\tu1\t11/15/2019 1:00:00 AM\tn1 n2 n1 n4 n5\tn6-1 n7-0\n"
        "2\tu1\t11/10/2019 1:00:00 AM\tn1 n2\tn4-1 n8-0\n"
        "3\tu1\t11/11/2019 1:00:00 AM\tn1 n2\tn9-1 n8-0\n"
    )
    report = convert_mind(write_raw(tmp_path / "raw", behaviors), tmp_path / "mind")
    rows = [line.split("\t") for line in read_atomic(tmp_path / "mind")[0].splitlines()[1:]]
    assert [(item, is_click) for _, item, _, is_click in rows] == [
        *(("n1", "0"), ("n2", "0"), ("n4", "1"), ("n9", "1")),
        *(("n1", "0"), ("n5", "0"), ("n6", "1")),  # a second click on n1; n4 is known from the impression
    ]
    candidates = read_candidate_file(tmp_path / "mind" / "mind.impressions.npz")
    positives = candidates.tokens[candidates.items[candidates.is_positive]].tolist()
    assert dict(zip(positives, candidates.n_events.tolist(), strict=True)) == {"n6": 6, "n4": 2, "n9": 3}
    assert report.counts["users whose lines differ in history (joined by time)"] == 1
    assert report.counts["history events"] == 4


def test_a_shorter_history_in_a_later_line_takes_nothing_away(tmp_path: Path) -> None:
    behaviors = "1\tu1\t11/9/2019 1:00:00 AM\tn1 n2\tn3-0\n2\tu1\t11/9/2019 1:00:00 AM\tn2\tn3-0\n"
    report = convert_mind(write_raw(tmp_path / "raw", behaviors), tmp_path / "mind")
    assert read_atomic(tmp_path / "mind")[0].split("\n")[1:] == ["u1\tn1\t0\t0", "u1\tn2\t1\t0", ""]
    assert report.counts["users whose lines differ in history (joined by time)"] == 1


SKIPPED = [
    (BEHAVIORS + "10\tu9\t11/9/2019 1:00:00 AM\tn1\n", NEWS, "not 5 columns: 1 (line skipped); line 10"),
    (BEHAVIORS + "\n", NEWS, "not 5 columns: 1 (line skipped); line 10"),
    *(
        (f"{BEHAVIORS}10\tu9\t{time}\tn1\tn2-1\n", NEWS, "time not as 11/12/2019 2:14:46 PM: 1 (line skipped); line 10")
        for time in ("2019-11-09 01:00", "11/9/2019 13:00:00 PM")
    ),
    *(
        (
            f"{BEHAVIORS}10\t{u}\t11/9/2019 1:00:00 AM\tn1\tn2-1\n",
            NEWS,
            f"user id is {BAD_ID}: 1 (line skipped); line 10",
        )
        for u in ("", "u\x009")
    ),
    (
        BEHAVIORS.replace("n4-0 n5-1 n3-1", "n4-0 n5-1 n9 n9-2 -1 n3-1"),
        NEWS,
        "impression entry not as N123-0 or N123-1: 3 (entry skipped); line 1",
    ),
    (
        BEHAVIORS.replace("n7 n8", "n7 n\x008 n8"),
        NEWS,
        "control character in a history entry: 1 (entry skipped); line 8",
    ),
    (BEHAVIORS, NEWS + "n10\tnews\t\ttitle\n", "not 8 columns: 1 (line skipped); line 10"),
    (BEHAVIORS, NEWS + "n2\tnews\t\tother\t\t\t\t\n", "news id seen before: 1 (line skipped, first kept); line 10"),
    *(
        (
            BEHAVIORS,
            f"{NEWS}{n}\tnews\t\ttitle\t\t\t\t\n",
            f"news id has a blank, or is {BAD_ID}: 1 (line skipped); line 10",
        )
        for n in ("", "n 1", "n1 ")
    ),
]


@pytest.mark.parametrize(("behaviors", "news", "expected"), SKIPPED)
def test_what_is_malformed_is_skipped_and_reported_by_line_and_the_rest_kept(
    tmp_path: Path, behaviors: str, news: str, expected: str
) -> None:
    report = convert_mind(write_raw(tmp_path / "raw", behaviors, news), tmp_path / "mind", max_lost=1)
    assert report.fault_text() == [f"{'behaviors' if news == NEWS else 'news'}.tsv: {expected}"]
    assert read_atomic(tmp_path / "mind") == (INTER, ITEM)


@pytest.mark.parametrize(
    ("behaviors", "news", "expected"),
    [
        ("", NEWS, r"behaviors\.tsv has no row: it is empty"),
        ("a,b\nc,d\n", NEWS, r"behaviors\.tsv: 2 of 2 rows are malformed .* The first is line 1, not 5 columns: 'a,b'"),
        (BEHAVIORS, "id\ttitle\n", r"news\.tsv: 1 of 1 rows are malformed .* The first is line 1, not 8 columns: 'id"),
        ("1\tu6\t11/14/2019 2:14:46 PM\t\tn9-0\n", NEWS, r"behaviors\.tsv has no click"),
    ],
)
def test_a_source_without_anything_usable_is_an_error_and_leaves_older_files_alone(
    tmp_path: Path, behaviors: str, news: str, expected: str
) -> None:
    out = tmp_path / "mind"
    convert_mind(write_raw(tmp_path / "raw"), out)
    with pytest.raises(UserError, match=expected):
        convert_mind(write_raw(tmp_path / "raw", behaviors, news), out)
    assert read_atomic(out) == (INTER, ITEM)
    assert sorted(path.name for path in out.iterdir()) == ["mind.impressions.npz", "mind.inter", "mind.item"]


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data missing: {REAL}")
def test_real_mind_has_its_known_counts(tmp_path: Path) -> None:
    report = convert_mind(REAL, tmp_path / "mind")
    expected = {
        "users": 4_637,
        "users with an empty history": 101,
        "users without any event (not in .inter)": 0,
        "users whose lines differ in history (joined by time)": 0,
        "events": 146_474,
        "history events": 138_932,
        "impression clicks": 7_542,
        "events of news without a line (kept)": 0,
        "impressions": 5_000,
        "impression entries": 189_359,
        "impressions without a click (no candidate set)": 0,
        "impressions with several clicks": 1_377,
        "impressions with nothing but clicks": 0,
        "impressions whose clicks are the user's first events (no history)": 101,
        "impression entries repeated within an impression (one kept)": 0,
        "news clicked and not clicked in one impression (clicked taken)": 0,
        "candidates of news without a line (kept)": 0,
        "news": 51_282,
        "clicked news": 17_628,
        "clicked news without a line": 0,
        "text fields with white space or control characters changed": 152,
    }
    assert report.counts == expected
    assert report.faults == {}
    inter, item = read_atomic(tmp_path / "mind")
    assert inter.count("\n") == 1 + 146_474
    assert item.count("\n") == len(item.splitlines()) == 1 + 51_282


def impressions(tmp_path: Path, behaviors: str = BEHAVIORS) -> tuple[list[tuple[str, int, list[str], list[str]]], dict]:
    report = convert_mind(write_raw(tmp_path / "raw", behaviors), tmp_path / "mind", max_lost=1)
    return list(read_candidate_file(tmp_path / "mind" / "mind.impressions.npz").rows()), report.counts


def test_every_impression_with_a_click_is_a_candidate_set_after_all_that_came_before_it(tmp_path: Path) -> None:
    assert impressions(tmp_path)[0] == [
        ("u1", 3, ["n6"], []),
        ("u1", 4, ["n3", "n5"], ["n4"]),
        ("u2", 1, ["n9"], []),
        ("u2", 2, ["n6"], ["n7"]),
        ("u3", 1, ["n4"], []),
        ("u3", 3, ["n7"], ["n1"]),
        ("u4", 0, ["n404"], []),
    ]


def test_news_that_an_impression_lists_twice_counts_once_and_a_click_wins(tmp_path: Path) -> None:
    line = "1\tu1\t11/9/2019 1:00:00 AM\tn1\tn2-0 n2-0 n3-1 n3-0 n4-0 n4-1 n9-0\n"
    rows, counts = impressions(tmp_path, line)
    assert rows == [("u1", 1, ["n3", "n4"], ["n2", "n9"])]
    assert counts["impression entries repeated within an impression (one kept)"] == 1
    assert counts["news clicked and not clicked in one impression (clicked taken)"] == 2


def test_malformed_lines_and_entries_are_no_candidates(tmp_path: Path) -> None:
    line = "1\tu1\t11/9/2019 1:00:00 AM\tn1\tn2-1 n3 n4-0\n2\tu1\tnever\tn1\tn5-1 n6-0\n"
    assert impressions(tmp_path, line)[0] == [("u1", 1, ["n2"], ["n4"])]


def test_impressions_of_one_time_keep_the_order_of_the_file_and_their_clicks_stay_together(tmp_path: Path) -> None:
    behaviors = "".join(
        f"{i}\tu1\t11/9/2019 1:00:00 AM\tn1\t{entries}\n"
        for i, entries in enumerate(["n2-1 n3-1 n4-0", "n5-1 n2-0"], start=1)
    )
    assert impressions(tmp_path, behaviors)[0] == [("u1", 1, ["n2", "n3"], ["n4"]), ("u1", 3, ["n5"], ["n2"])]
    assert read_atomic(tmp_path / "mind")[0].splitlines()[1:] == [
        "u1\tn1\t0\t0",
        "u1\tn2\t1\t1",
        "u1\tn3\t2\t1",
        "u1\tn5\t3\t1",
    ]


def test_a_source_without_labels_has_no_candidate_set(tmp_path: Path) -> None:
    rows, counts = impressions(tmp_path, "1\tu1\t11/9/2019 1:00:00 AM\tn1 n2\tn3 n4\n")
    assert rows == []
    assert counts["impressions without a click (no candidate set)"] == 1


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data missing: {REAL}")
def test_real_impressions_follow_the_events_before_them(tmp_path: Path) -> None:
    convert_mind(REAL, tmp_path / "mind")
    candidates = read_candidate_file(tmp_path / "mind" / "mind.impressions.npz")
    assert len(candidates) == 5_000
    assert len(candidates.items) == 189_359
    assert candidates.is_positive.sum() == 7_542
    events: dict[str, list[tuple[str, str]]] = {}
    for line in read_atomic(tmp_path / "mind")[0].splitlines()[1:]:
        user, item, position, from_impression = line.split("\t")
        assert int(position) == len(events.setdefault(user, []))
        events[user].append((item, from_impression))
    for user, n_events, positives, _ in candidates.rows():
        clicks = events[user][n_events : n_events + len(positives)]
        assert sorted(clicks) == sorted((item, "1") for item in positives)
