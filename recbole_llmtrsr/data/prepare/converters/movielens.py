"""MovieLens (Harper and Konstan, TiiS 2015), official archives -> atomic files.

The files identify three layouts: ratings.csv and movies.csv (25M, 32M, latest-small...), ratings.dat and movies.dat
(1M, 10M), u.data, u.item and u.genre (100k). Ratings are streamed; kept in memory are ids and plots.

Genres are written with spaces between them. Plots come from elsewhere, such as the overviews of TMDB: a table with a
column of movie ids, those of MovieLens or, through links.csv, of IMDb or TMDB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.atomic import BAD_ID, AtomicFile, atomic_files, atomic_paths, is_number, is_token
from recbole_llmtrsr.data.prepare.converters.plots import read_plots
from recbole_llmtrsr.data.prepare.matching import check_match
from recbole_llmtrsr.data.prepare.raw import read_columns, read_csv, require_files
from recbole_llmtrsr.data.prepare.report import MAX_LOST, Report
from recbole_llmtrsr.errors import UserError

COLUMNS = {
    "inter": ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
    "item": ("item_id:token", "title:token_seq", "genres:token_seq"),
}
OVERVIEW = "overview:token_seq"
LAYOUTS = (("ratings.csv", "movies.csv"), ("ratings.dat", "movies.dat"), ("u.data", "u.item", "u.genre"))
REMEDY = "give the folder of an unpacked MovieLens archive, with " + ", or ".join(
    " and ".join(names) for names in LAYOUTS
)
_NO_GENRES = ("(no genres listed)", "unknown")
_N_BEFORE_GENRES = 5  # columns of u.item
_Texts = Iterator[tuple[int, list[str]]]


def convert_movielens(
    source: Path,
    out: Path,
    plots: Path | None = None,
    plot_id: str = "movieId",
    plot_text: str = "overview",
    encoding: str = "utf-8",
    max_lost: float = MAX_LOST,
) -> Report:
    """Write ``<out>/<name of out>.inter`` and ``.item``, and return counts; ``CONVERTERS`` explains the options.

    Lines of movies.dat and u.item that ``encoding`` cannot decode are read as Latin-1.

    Raises:
        UserError: a missing file or column, too many malformed lines, ratings or plots of other movies, or an out
            folder that cannot be written.
    """
    require_files(source, [], REMEDY)
    names = next((names for names in LAYOUTS if (source / names[0]).is_file()), LAYOUTS[0])
    paths = require_files(source, names, REMEDY)
    title = "movielens: " + ", ".join(map(str, atomic_paths(out, COLUMNS)))
    report = Report(title, encoding=encoding, max_lost=max_lost)
    texts, plot_counts = None, dict[str, int]()
    if plots is not None:
        texts, plot_counts = read_plots(plots, plot_id, plot_text, source, report)
    columns = COLUMNS if texts is None else {**COLUMNS, "item": (*COLUMNS["item"], OVERVIEW)}
    with atomic_files(out, columns) as (files, _):
        movies, counts = _convert_movies(paths, files["item"], texts, report)
        if plots is not None and not counts["movies with a plot"]:
            raise UserError(
                f"no movie of {paths[1]} has a plot in {plots}: name its columns by --plot_id and --plot_text"
            )
        report.counts, rated = _convert_ratings(paths[0], files["inter"], movies, report)
        n, n_unknown = report.counts["ratings"], report.counts["ratings of movies without a line (kept)"]
        check_match(paths[0], paths[1], n, n_unknown, rated, movies, report)
        report.counts |= counts | plot_counts
    return report


def _convert_ratings(path: Path, file: AtomicFile, movies: set[str], report: Report) -> tuple[dict[str, int], set[str]]:
    """Write one row per rating; return counts, and the movies."""
    users, rated = set[str](), set[str]()
    n_ratings = n_unknown = 0
    for number, (user, movie, rating, time) in _ratings(path, report):
        if not is_token(user) or not is_token(movie):
            report.fault(path.name, number, f"user or movie is {BAD_ID}", "line skipped")
        elif not is_number(rating) or not is_number(time):
            report.fault(path.name, number, "rating or time is no number", "line skipped")
        else:
            file.write(user, movie, rating, time)
            n_ratings += 1
            n_unknown += movie not in movies
            users.add(user)
            rated.add(movie)
    counts = {
        "users": len(users),
        "rated movies": len(rated),
        "ratings": n_ratings,
        "ratings of movies without a line (kept)": n_unknown,
        "movies never rated (in .item)": len(movies - rated),
    }
    return counts, rated


def _convert_movies(
    paths: list[Path], file: AtomicFile, plots: dict[str, str] | None, report: Report
) -> tuple[set[str], dict[str, int]]:
    """Write one row per movie; return the ids, and counts."""
    movies: set[str] = set()
    n_without_genres = n_plots = 0
    path = paths[1]
    for number, (movie, title, genres) in _movies(paths, report):
        if not is_token(movie):
            report.fault(path.name, number, f"movie is {BAD_ID}", "line skipped")
        elif movie in movies:
            report.fault(path.name, number, "movie seen before", "line skipped, first kept", lost=None)
        else:
            movies.add(movie)
            n_without_genres += genres in _NO_GENRES or not genres
            plot = () if plots is None else (plots.get(movie, ""),)
            n_plots += any(plot)
            file.write(
                movie, one_line(title), "" if genres in _NO_GENRES else one_line(genres.replace("|", " ")), *plot
            )
    counts = {"movies": len(movies), "movies without a genre": n_without_genres}
    if plots is not None:
        counts |= {"movies with a plot": n_plots, "plots of other movies (not in .item)": len(plots.keys() - movies)}
    return movies, counts


def _ratings(path: Path, report: Report) -> _Texts:
    """User, movie, rating, time."""
    if path.suffix == ".csv":
        return read_csv(path, ["userId", "movieId", "rating", "timestamp"], report, REMEDY)
    return read_columns(path, 4, report, "::" if path.suffix == ".dat" else "\t")


def _movies(paths: list[Path], report: Report) -> _Texts:
    """Movie, title, genres with | between them."""
    path = paths[1]
    if path.suffix == ".csv":
        return read_csv(path, ["movieId", "title", "genres"], report, REMEDY)
    if path.suffix == ".dat":
        return read_columns(path, 3, report, "::", fallback="latin-1")  # 1M is Latin-1, 10M UTF-8
    return _movies_of_100k(paths, report)


def _movies_of_100k(paths: list[Path], report: Report) -> _Texts:
    # Its last line is empty.
    names = [name for _, (name, _) in read_columns(paths[2], 2, replace(report, tallies={}, faults={}), "|")]
    for number, row in read_columns(paths[1], _N_BEFORE_GENRES + len(names), report, "|", fallback="latin-1"):
        genres = [name for name, flag in zip(names, row[_N_BEFORE_GENRES:], strict=True) if flag == "1"]
        yield number, [row[0], row[1], "|".join(genres)]
