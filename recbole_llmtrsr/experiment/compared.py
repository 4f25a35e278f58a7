"""What ``compare`` returns: the results of all runs and their folder, with tables as DataFrames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.cells import RANDOM, main_metric, metrics_of
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.experiment.last_screen import last_screen
from recbole_llmtrsr.report.page import REPORT
from recbole_llmtrsr.report.svg import SVG, plots

_DIGITS = 4


class Compared(tuple[list[dict[str, Any]], Path]):
    """The outcome of a comparison, which unpacks as ``results, folder = compare(...)``.

    Args:
        runs: all of them, in the order in which they ran.
        comparisons: of those that were tested: the test's first, then those of ``also_test``.
        folder: of the results.

    Attributes:
        runs: as given.
        comparisons: as given; without any run that was tested, empty.

    Examples:
        >>> compared = compare(["LLMTRSR", "SASRec"], "ml-100k")  # doctest: +SKIP
        >>> compared.table.loc["LLMTRSR", "ndcg@10"]  # doctest: +SKIP
        >>> compared.plot("ndcg by K")  # doctest: +SKIP
    """

    runs: Sequence[Run]
    comparisons: Sequence[Comparison]

    def __new__(cls, runs: Sequence[Run], comparisons: Sequence[Comparison], folder: Path) -> Compared:
        """A tuple of the results and the folder."""
        made = super().__new__(cls, ([run.result for run in runs], folder))  # type: ignore[type-var]
        made.runs, made.comparisons = runs, comparisons
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.runs, self.comparisons, self.folder

    @property
    def results(self) -> list[dict[str, Any]]:
        """The content of every run's result.json, by model and seed."""
        return self[0]

    @property
    def folder(self) -> Path:
        """Holds the results; it does not exist after a dry run."""
        return self[1]

    @property
    def report(self) -> Path | None:
        """The report to open in a browser; None where ``report`` is off or nothing was tested."""
        path = self.folder / REPORT
        return path if path.is_file() else None

    @property
    def table(self) -> pd.DataFrame:
        """Test metrics of every model, means over its seeds, the main metric first; the last row ranks at random."""
        if not self.comparisons:
            return pd.DataFrame(index=pd.Index([run.label for run in self.runs], name="model"))
        one = self.comparisons[0]
        names = sorted(metrics_of(one), key=lambda name: name != main_metric(one))
        rows = {row.label: {name: estimate.mean for name, estimate in row.metrics.items()} for row in one.rows}
        if one.random is not None:
            rows[RANDOM] = one.random
        return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=names).rename_axis("model")

    def to_pandas(self) -> pd.DataFrame:
        """Every test metric of every model in long form.

        Returns:
            columns model, metric, mean (over users and seeds), low and high (of the 95 % interval over users) and
            spread (standard deviation over seeds; missing for one seed).
        """
        columns = ["model", "metric", "mean", "low", "high", "spread"]
        rows = [
            (row.label, name, estimate.mean, estimate.low, estimate.high, estimate.spread)
            for comparison in self.comparisons[:1]
            for row in comparison.rows
            for name, estimate in row.metrics.items()
        ]
        return pd.DataFrame(rows, columns=columns).astype({"spread": float})

    def per_history(self) -> pd.DataFrame:
        """The metrics of every ranked history of every run, as in the runs' per_history.csv.

        Returns:
            columns model, seed, user_id, n_events, target, n_candidates, n_positives, rank, then the metrics and what
            is known of the target. Empty where nothing was ranked.
        """
        tables = [
            run.per_history.assign(model=run.label, seed=run.seed) for run in self.runs if run.per_history is not None
        ]
        if not tables:
            return pd.DataFrame(columns=["model", "seed"])
        made = pd.concat(tables, ignore_index=True)
        return made[["model", "seed", *(name for name in made.columns if name not in ("model", "seed"))]]

    def plot(self, title: str | None = None) -> SVG:
        """A plot of the report as the text of an SVG file, which a notebook draws.

        Args:
            title: of the plot, such as 'recall by K' or 'ndcg@10 by history length'; None takes the first.

        Raises:
            UserError: no such plot.
        """
        found = plots(self.comparisons[0]) if self.comparisons else {}
        chosen = next(iter(found), "") if title is None else title
        if chosen not in found:
            raise UserError(f"unknown plot '{chosen}': available plots are {', '.join(found) or 'none'}")
        return found[chosen]

    def __repr__(self) -> str:
        """What a command shows at its end."""
        return last_screen(self.runs, self.comparisons, self.folder)

    def _repr_html_(self) -> str | None:
        """The table, as a notebook shows it; without a table the notebook shows the text."""
        return self.table.round(_DIGITS).to_html() if self.comparisons else None
