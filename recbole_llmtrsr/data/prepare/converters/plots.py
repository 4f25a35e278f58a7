"""Plots of movies from a table of another source, by MovieLens's ids."""

from __future__ import annotations

from pathlib import Path

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.raw import read_csv, require_files
from recbole_llmtrsr.data.prepare.records import read_records
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError

# Column of the plots -> column of links.csv.
ID_COLUMNS = {"movieId": "movieId", "imdbId": "imdbId", "imdb_id": "imdbId", "tmdbId": "tmdbId", "tmdb_id": "tmdbId"}


def read_plots(
    path: Path, id_column: str, text_column: str, source: Path, report: Report
) -> tuple[dict[str, str], dict[str, int]]:
    """Read a table of plots.

    Args:
        path: a table of any form that ``read_records`` reads.
        id_column: one of ID_COLUMNS; all but movieId need links.csv.
        text_column: column of the plots; rows where it is empty are counted.
        source: folder of links.csv.
        report: counts the rows that are skipped.

    Returns:
        movie id -> plot, on one line, and counts of rows without a text or a movie.

    Raises:
        UserError: an unknown id column, or an unreadable or missing file.
    """
    if id_column not in ID_COLUMNS:
        raise UserError(f"--plot_id must be one of {', '.join(ID_COLUMNS)}, got '{id_column}': rename the column")
    kind = ID_COLUMNS[id_column]
    movies = _movies_by(kind, source, report) if kind != "movieId" else None
    plots: dict[str, str] = {}
    n_empty = n_unlinked = 0
    for number, (name, text) in read_records(path, [id_column, text_column], report):
        plot = one_line(text)
        named = [name] if movies is None else movies.get(_plain(name), [])
        n_empty += not plot
        n_unlinked += not named
        for movie in named if plot else []:
            if movie in plots:
                report.fault(path.name, number, "movie has a plot already", "row skipped, first kept", lost=None)
            else:
                plots[movie] = plot
    return plots, {"rows of the plots without a text": n_empty, "rows of the plots without a link": n_unlinked}


def _movies_by(column: str, source: Path, report: Report) -> dict[str, list[str]]:
    """Id of IMDb or TMDB -> movies; a few movies share one."""
    remedy = "plots by ids of IMDb or TMDB need the links.csv of the archive, as 25M, 32M and latest-small have it"
    (path,) = require_files(source, ["links.csv"], remedy)
    movies: dict[str, list[str]] = {}
    for _, (movie, name) in read_csv(path, ["movieId", column], report, remedy):
        if name:
            movies.setdefault(_plain(name), []).append(movie)
    return movies


def _plain(name: str) -> str:
    """An id in the form common to plots and links.

    >>> _plain("tt0114709"), _plain("0114709"), _plain("862.0")
    ('114709', '114709', '862')
    """
    return name.removeprefix("tt").removesuffix(".0").lstrip("0")
