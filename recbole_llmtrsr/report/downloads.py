"""Files that the page holds: CSV of its tables, and the data URLs of all downloads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import StringIO

import pandas as pd

from recbole_llmtrsr.evaluation.comparison.comparison import Comparison
from recbole_llmtrsr.evaluation.comparison.exports import as_csv
from recbole_llmtrsr.report.further import Further
from recbole_llmtrsr.report.meanings import mode_of_test

RESULTS, CANDIDATES = "results", "candidates"


def tables(comparison: Comparison, further: Sequence[Further] = ()) -> dict[str, str]:
    """CSV of each table: the lines of comparison.csv that belong to it, without columns that are empty there.

    Returns:
        by kind: 'results', 'minus' (the differences), 'cost', 'ablation', the kinds of groups, and 'candidates', the
        results of all candidate sets, where there are further ones.
    """
    found = {str(kind) or RESULTS: part for kind, part in _lines(comparison).groupby("kind", sort=False)}
    if further:
        tests = [
            (mode_of_test(comparison), comparison),
            *((mode_of_test(f.comparison) or f.name, f.comparison) for f in further),
        ]
        parts = [_lines(test)[lambda lines: lines["kind"] == ""].assign(candidates=mode) for mode, test in tests]
        found[CANDIDATES] = pd.concat(parts)
    return {kind: _csv(lines) for kind, lines in found.items()}


def data_url(content: str, media_type: str) -> str:
    """A link that holds a whole file, so that it is saved without network or script.

    >>> data_url("a,b", "text/csv")
    'data:text/csv;base64,YSxi'
    """
    return f"data:{media_type};base64,{base64.b64encode(content.encode()).decode()}"


def _lines(comparison: Comparison) -> pd.DataFrame:
    """The lines of comparison.csv, whose texts no spreadsheet runs as formulas."""
    return pd.read_csv(StringIO(as_csv(comparison)), dtype=str, keep_default_na=False)


def _csv(lines: pd.DataFrame) -> str:
    used = [name for name in lines if (lines[name] != "").any()]
    return str(lines[used].to_csv(index=False, lineterminator="\n"))
