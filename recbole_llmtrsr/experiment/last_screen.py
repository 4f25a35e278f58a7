"""What a command shows at its end: costs of planned summaries, its tables, and where all figures are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_llmtrsr.evaluation.comparison.comparison import Comparison
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.evaluation.comparison.screen import screen
from recbole_llmtrsr.runtime.screen import facts, width

_FILES = {
    "tables": ("comparison.md", "comparison.csv", "comparison.tex", "comparison.json"),
    "report": ("report.html",),
    "summaries": ("summaries.jsonl",),
    "files": ("result.json", "per_history.csv"),
}


def last_screen(runs: Sequence[Run], comparisons: Sequence[Comparison], folder: Path) -> str:
    """The end of a command's output; the test's table comes behind those of ``also_test``, where the reader looks.

    Args:
        runs: all of them.
        comparisons: the test's first, then those of further candidates.
        folder: of the results; none exists after a dry run.
    """
    costs = [f"{run.label}\n{run.result['summary_cost']}" for run in runs if "summary_cost" in run.result]
    tables = [screen(one, width()) for one in (*comparisons[1:], *comparisons[:1])]
    parts = [*costs, *tables, files(folder)]
    return "\n\n".join(part for part in parts if part) + (f"\nresults: {folder}" if folder.is_dir() else "")


def files(folder: Path) -> str:
    """Which files of a result folder hold what."""
    found = {name: [file for file in group if (folder / file).is_file()] for name, group in _FILES.items()}
    return facts((name, ", ".join(group)) for name, group in found.items())
