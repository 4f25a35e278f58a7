"""Reads and checks a file of scores that another program gave to candidates, with exactly one line per candidate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.metrics import Floats

COLUMNS = ("user", "n_events", "item", "score")

_KEY = list(COLUMNS[:3])
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_N_NAMED = 5


def read_scores(path: Path) -> pd.DataFrame:
    """Read scores from a .csv or .tsv file with a header, or from a .jsonl file with one object per line.

    Args:
        path: the file.

    Returns:
        A table with the columns user (text), n_events (int64), item (text) and score (float64); scores that are not
        numbers are nan.

    Raises:
        UserError: the file cannot be read, lacks a column, or has an n_events that is not a whole number.
    """
    if path.suffix not in (*_SEPARATORS, ".jsonl"):
        raise UserError(f"scores {path} have an unknown format: the file name must end in .csv, .tsv or .jsonl")
    try:
        if path.suffix == ".jsonl":
            table = pd.DataFrame(list(_lines(path)), columns=list(COLUMNS))
        else:
            separator = _SEPARATORS[path.suffix]
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8")
    except OSError as error:
        raise UserError(f"scores {path} cannot be read: {error.strerror or error}") from error
    except UserError:
        raise
    except ValueError as error:  # the errors of pandas, and text that is not UTF-8
        raise UserError(f"scores {path} cannot be read: {error}") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(
            f"scores {path} lack the columns {', '.join(missing)}: the header must name {', '.join(COLUMNS)}"
        )
    n_events = pd.to_numeric(table["n_events"], errors="coerce").astype(np.float64)
    wrong = table[~((n_events >= 0) & (n_events % 1 == 0))]
    if len(wrong):
        raise UserError(
            f"scores {path}: n_events must be a whole number >= 0, which {len(wrong)} lines violate: {_named(wrong)}"
        )
    return pd.DataFrame(
        {
            "user": table["user"].astype(object),
            "n_events": n_events.astype(np.int64),
            "item": table["item"].astype(object),
            "score": pd.to_numeric(table["score"], errors="coerce").astype(np.float64),
        }
    )


def align_scores(candidates: CandidateFile, scores: pd.DataFrame) -> Floats:
    """Sort scores into the order of the candidate file.

    Args:
        candidates: the lists of candidates.
        scores: the table from `read_scores`, in any order.

    Returns:
        The score of each candidate. [n_candidates of all rows]

    Raises:
        UserError: candidates have no score or several, or scores belong to no candidate or are not finite; the message
            counts all faults and names the first few of each kind.
    """
    rows = np.repeat(np.arange(len(candidates.users)), np.diff(candidates.offsets))
    wanted = pd.DataFrame(
        {
            "user": candidates.users[rows].astype(object),
            "n_events": candidates.n_events[rows],
            "item": candidates.tokens[candidates.items].astype(object),
        }
    )
    both = wanted.merge(scores, on=_KEY, how="outer", indicator="side")
    found = {
        "candidates have no score": both[both["side"] == "left_only"],
        "scores belong to no candidate": both[both["side"] == "right_only"],
        "scores repeat a candidate": scores[scores.duplicated(_KEY)],
        "scores are not finite numbers": scores[~np.isfinite(scores["score"])],
    }
    faults = [f"{len(table)} {what}: {_named(table)}" for what, table in found.items() if len(table)]
    if faults:
        raise UserError([*faults, f"every one of the {len(wanted)} candidates needs exactly one finite score"])
    return wanted.merge(scores, on=_KEY, how="left")["score"].to_numpy()


def _lines(path: Path) -> Iterator[tuple[str, int, str, float]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                content = json.loads(line)
                user, n_events, item, score = (content[name] for name in COLUMNS)
                yield str(user), int(n_events), str(item), float("nan" if score is None else score)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                raise UserError(
                    f"scores {path}, line {number} must be a JSON object with {', '.join(COLUMNS)}, got {line[:80]!r}"
                ) from error


def _named(table: pd.DataFrame) -> str:
    """The first few rows of a table, for a message."""
    first = table.head(_N_NAMED)
    texts = [f"'{item}' of user '{user}' after {n} events" for user, n, item in zip(*(first[name] for name in _KEY))]
    return ", ".join(texts) + (", ..." if len(table) > _N_NAMED else "")
