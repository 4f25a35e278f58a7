"""MovieLens's archives to atomic files: three layouts of the same ratings, one literal result."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import read_atomic

from recbole_llmtrsr.data.prepare.atomic import BAD_ID
from recbole_llmtrsr.data.prepare.converters.movielens import convert_movielens
from recbole_llmtrsr.errors import UserError

RATINGS = [("1", "10", "4", "964982703"), ("1", "30", "3", "964981247"), ("2", "10", "5", "964982703")]
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(
    "\t".join(row) + "\n" for row in RATINGS
)
ITEM = """\
item_id:token\ttitle:token_seq\tgenres:token_seq
10\tToy Story (1995)\tAnimation Children's
20\tMisérables, Les (1998)\tDrama
30\tWaiting (1996)\t
"""
GENRES = ["unknown", "Animation", "Children's", "Drama"]


def write_csv(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    rows = "".join(",".join(row) + "\n" for row in RATINGS)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + rows)
    movies = '10,Toy Story (1995),Animation|Children\'s\n20,"Misérables, Les (1998)",Drama\n'
    movies += "30,Waiting (1996),(no genres listed)\n"
    (folder / "movies.csv").write_text("movieId,title,genres\n" + movies, encoding="utf-8")
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n10,0114709,862\n20,0119683,862\n30,0000005,\n")
    return folder


def write_dat(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in RATINGS))
    movies = "10::Toy Story (1995)::Animation|Children's\n20::Misérables, Les (1998)::Drama\n30::Waiting (1996)::\n"
    (folder / "movies.dat").write_text(movies, encoding="latin-1")
    return folder


def write_100k(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "u.data").write_text("".join("\t".join(row) + "\n" for row in RATINGS))
    (folder / "u.genre").write_text("".join(f"{name}|{i}\n" for i, name in enumerate(GENRES)) + "\n")
    movies = "10|Toy Story (1995)|01-Jan-1995||http://x|0|1|1|0\n20|Misérables, Les (1998)|||http://x|0|0|0|1\n"
    (folder / "u.item").write_text(movies + "30|Waiting (1996)||||1|0|0|0\n", encoding="latin-1")
    return folder


@pytest.mark.parametrize("write", [write_csv, write_dat, write_100k])
def test_every_layout_gives_the_same_files_and_counts(tmp_path: Path, write) -> None:
    report = convert_movielens(write(tmp_path / "raw"), tmp_path / "ml")
    assert read_atomic(tmp_path / "ml") == (INTER, ITEM)
    assert report.faults == {}
    assert report.counts == {
        "users": 2,
        "rated movies": 2,
        "ratings": 3,
        "ratings of movies without a line (kept)": 0,
        "movies never rated (in .item)": 1,
        "movies": 3,
        "movies without a genre": 1,
    }


PLOTS = {
    "movieId": "movieId,overview\n10,A toy's\tlife.\n20,\n99,Unknown movie.\n",
    "imdb_id": "imdb_id,overview\ntt0114709,A toy's\tlife.\ntt0119683,\ntt0000099,Unknown movie.\n",
}
OF_OTHER_MOVIES = {"movieId": "plots of other movies (not in .item)", "imdb_id": "rows of the plots without a link"}


@pytest.mark.parametrize("id_column", list(PLOTS))
def test_plots_become_the_column_overview(tmp_path: Path, id_column: str) -> None:
    (tmp_path / "plots.csv").write_text(PLOTS[id_column])
    report = convert_movielens(write_csv(tmp_path / "raw"), tmp_path / "ml", tmp_path / "plots.csv", id_column)
    assert read_atomic(tmp_path / "ml")[1] == (
        "item_id:token\ttitle:token_seq\tgenres:token_seq\toverview:token_seq\n"
        "10\tToy Story (1995)\tAnimation Children's\tA toy's life.\n"
        "20\tMisérables, Les (1998)\tDrama\t\n"
        "30\tWaiting (1996)\t\t\n"
    )
    assert report.counts["movies with a plot"] == 1
    assert report.counts["rows of the plots without a text"] == 1
    assert {count: report.counts[count] for count in OF_OTHER_MOVIES.values()} == {
        count: int(count == OF_OTHER_MOVIES[id_column]) for count in OF_OTHER_MOVIES.values()
    }
    assert report.faults == {}


def test_plots_of_other_movies_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plots.csv").write_text("movieId,overview\n010,Another.\n")
    with pytest.raises(UserError, match=r"no movie of .*movies\.csv has a plot in .*plots\.csv: name its columns"):
        convert_movielens(write_csv(tmp_path / "raw"), tmp_path / "ml", tmp_path / "plots.csv")
    assert not (tmp_path / "ml").exists()


def test_movies_that_share_an_id_elsewhere_share_its_plot(tmp_path: Path) -> None:
    (tmp_path / "plots.jsonl").write_text('{"tmdbId": 862.0, "plot": "One."}\n{"tmdbId": 862, "plot": "Two."}\n')
    report = convert_movielens(write_csv(tmp_path / "raw"), tmp_path / "ml", tmp_path / "plots.jsonl", "tmdbId", "plot")
    assert [line.split("\t")[3] for line in read_atomic(tmp_path / "ml")[1].splitlines()[1:]] == ["One.", "One.", ""]
    assert report.fault_text() == ["plots.jsonl: movie has a plot already: 2 (row skipped, first kept); line 2"]


def test_plots_by_ids_of_imdb_need_the_links(tmp_path: Path) -> None:
    (tmp_path / "plots.csv").write_text(PLOTS["imdb_id"])
    with pytest.raises(UserError, match=r"no links\.csv in .*: plots by ids of IMDb or TMDB need the links\.csv"):
        convert_movielens(write_dat(tmp_path / "raw"), tmp_path / "ml", tmp_path / "plots.csv", "imdb_id")
    with pytest.raises(UserError, match="--plot_id must be one of movieId, .*, got 'id'"):
        convert_movielens(write_dat(tmp_path / "raw"), tmp_path / "ml", tmp_path / "plots.csv", "id")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("3::10::4", "not 4 columns: 1 (line skipped); line 4"),
        ("::10::4::1", f"user or movie is {BAD_ID}: 1 (line skipped); line 4"),
        ("3::10::four::1", "rating or time is no number: 1 (line skipped); line 4"),
        ("3::10::4::nan", "rating or time is no number: 1 (line skipped); line 4"),
    ],
)
def test_a_malformed_rating_is_skipped_and_reported_by_line(tmp_path: Path, line: str, expected: str) -> None:
    raw = write_dat(tmp_path / "raw")
    with (raw / "ratings.dat").open("a") as file:
        file.write(line + "\n")
    report = convert_movielens(raw, tmp_path / "ml", max_lost=1)
    assert report.fault_text() == [f"ratings.dat: {expected}"]
    assert read_atomic(tmp_path / "ml") == (INTER, ITEM)


def test_a_movie_seen_twice_or_without_an_id_is_reported_and_a_rated_one_without_a_line_counted(tmp_path: Path) -> None:
    raw = write_dat(tmp_path / "raw")
    with (raw / "movies.dat").open("a") as file:
        file.write("10::Again::Drama\n::No id::Drama\n")
    with (raw / "ratings.dat").open("a") as file:
        file.write("3::404::1::1\n")
    report = convert_movielens(raw, tmp_path / "ml", max_lost=1)
    assert read_atomic(tmp_path / "ml") == (INTER + "3\t404\t1\t1\n", ITEM)
    assert report.counts["ratings of movies without a line (kept)"] == 1
    assert report.fault_text() == [
        "movies.dat: movie seen before: 1 (line skipped, first kept); line 4",
        f"movies.dat: movie is {BAD_ID}: 1 (line skipped); line 5",
    ]


def test_a_missing_file_is_named_with_all_layouts(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("")
    remedy = r"give the folder of an unpacked MovieLens archive, with ratings\.csv and movies\.csv, or ratings\.dat and"
    with pytest.raises(UserError, match=rf"^no u\.item and no u\.genre in .*: {remedy}"):
        convert_movielens(tmp_path, tmp_path / "ml")
