"""The plots of a comparison as SVG files, which a notebook draws."""

from __future__ import annotations

from html import escape

from recbole_llmtrsr.evaluation.comparison.cells import main_metric, metrics_of
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison
from recbole_llmtrsr.report import plot
from recbole_llmtrsr.report.downloads import data_url
from recbole_llmtrsr.report.figures import plots_by_cost, plots_by_group, plots_by_k
from recbole_llmtrsr.report.page import template


class SVG(str):
    """The text of an SVG file; a notebook draws it."""

    def _repr_html_(self) -> str:
        # As an image, since style sheets inside of a page apply to all of it.
        return f'<img style="max-width: 480px" src="{escape(data_url(self, "image/svg+xml"))}">'


def plots(comparison: Comparison) -> dict[str, SVG]:
    """All plots of the report by their titles, in its order; empty where nothing was tested."""
    metrics = metrics_of(comparison)
    if not metrics:
        return {}
    metric = main_metric(comparison)
    made = [
        *plots_by_k(comparison, metrics),
        *plots_by_cost(comparison, metric),
        *plots_by_group(comparison, metric),
    ]
    draw = template("plot.html").module.file  # type: ignore[attr-defined]
    return {one.title: SVG(draw(one, plot)) for one in made}
