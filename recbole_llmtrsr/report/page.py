"""A comparison as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison import cells
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate, Row
from recbole_llmtrsr.report import commands, downloads, facts, meanings, plot
from recbole_llmtrsr.report.axis import linear_axis
from recbole_llmtrsr.report.figures import plots_by_cost, plots_by_group, plots_by_k
from recbole_llmtrsr.report.further import Further, columns, further_tests
from recbole_llmtrsr.report.plot import Series
from recbole_llmtrsr.report.table import LEVEL, costs, find_test, group_tables, main_lines
from recbole_llmtrsr.runtime.atomic_write import atomic_write

REPORT = "report.html"
_TITLES = {
    "results": "Results",
    "candidates": "Other candidate sets",
    "differences": "Differences between models",
    "cost": "Quality against time and cost",
    "groups": "Results by group",
    "ablations": "Does the model use its prompt?",
    "setup": "Commands, options and versions",
}


def page(comparison: Comparison, further: Sequence[Further] = ()) -> str:
    """The page of a comparison, with links to ``further`` tests; self-contained, without script, all texts escaped.

    The primary metric comes first everywhere. Plots and tables can be downloaded from data URLs.

    Raises:
        UserError: no row has metrics.
    """
    metrics = cells.metrics_of(comparison)
    if not metrics:
        raise UserError("report: no run has test metrics: give the split a test part (eval_args.split)")
    metric = cells.main_metric(comparison)
    metrics = [metric, *(other for other in metrics if other != metric)]
    placed = zip(comparison.rows, cells.places([row.metrics for row in comparison.rows], metric))
    ranked = [row for row, place in sorted(placed, key=lambda pair: pair[1] or 0) if place is not None]
    pairs = (find_test(comparison.tests, ranked[0].label, other.label, metric) for other in ranked[1:])
    tests = [test for test in pairs if test is not None]
    others = columns(comparison, further, metric)
    by_cost, groups = plots_by_cost(comparison, metric), group_tables(comparison, metrics)
    ablated = [(row, _ablation_reports(row)) for row in comparison.rows if row.ablations]
    parts = {"candidates": others, "differences": comparison.tests, "cost": by_cost, "groups": groups}
    parts |= {"ablations": ablated}
    keys = [Series(row.label, number, ()) for number, row in enumerate(comparison.rows)]
    return template("page.html").render(
        c=comparison,
        metrics=metrics,
        metric=metric,
        is_chosen=metric in cells.chosen_by(comparison),
        contents={name: title for name, title in _TITLES.items() if parts.get(name, True)},
        csv=downloads.tables(comparison, further),
        ranked=ranked,
        first_test=tests[0] if tests and tests[0].second == ranked[1].label else None,
        lines=main_lines(comparison, metrics),
        plots_by_k=plots_by_k(comparison, metrics),
        plots_by_group=plots_by_group(comparison, metric),
        plots_by_cost=by_cost,
        tests=tests,
        groups=groups,
        costs=costs(comparison),
        facts=[
            ("Options", facts.facts(comparison.rows, facts.options)),
            ("Data and candidates", facts.facts(comparison.rows, facts.data)),
            ("Versions", facts.facts(comparison.rows, facts.software)),
            ("Hardware", facts.facts(comparison.rows, facts.hardware)),
        ],
        commands=commands.all_typed(result.get("command") for row in comparison.rows for result in row.results),
        keys=keys,
        legend=[*keys, *([Series(cells.RANDOM, None, ())] if comparison.random else [])],
        mode=meanings.of_mode(meanings.mode_of_test(comparison)),
        meanings={**meanings.of_models(comparison), **meanings.of_metrics(metrics)},
        ablation_meanings=meanings.of_ablations(ablation.name for row in comparison.rows for ablation in row.ablations),
        further=others,
        further_meanings={one.mode: one.meaning for one in others if one.meaning},
        chips=_chips(comparison),
        has_spread=any(estimate.spread is not None for row in comparison.rows for estimate in row.metrics.values()),
        ablated=ablated,
        main_changes=lambda row: [ablation.metrics[metric] for ablation in row.ablations if metric in ablation.metrics],
        strip_axis=_strip_axis,
        level=LEVEL,
        cells=cells,
        canvas=plot,
    )


def write_report(folder: Path, comparison: Comparison) -> Path:
    """Write report.html atomically and return its path.

    It links to the reports of the same models among other candidates, ``also/<mode>/report.html`` in this folder, which
    must be written first.

    Raises:
        UserError: it cannot be written, or a comparison below ``also`` cannot be read.
    """
    path = folder / REPORT
    made = page(comparison, further_tests(folder, comparison, REPORT)).encode()
    try:
        with atomic_write(path) as file:
            file.write(made)
    except OSError as error:
        raise UserError(
            f"report: {path} cannot be written ({error.strerror or error}): choose a writable folder with room in it"
        ) from error
    return path


def _chips(comparison: Comparison) -> list[str]:
    """Short labels of what all rows share, and of their seeds."""
    first = next((result for row in comparison.rows for result in row.results), {})
    n_test, drawn = facts.look_up(first, "n_test"), facts.look_up(first, "candidates", "test") or {}
    seeds = cells.seeds_text(comparison.rows)
    chips = []
    if n_test is not None:
        chips.append(f"{n_test:,} test targets")
    if "n_per_history" in drawn:
        n = drawn["n_per_history"]  # of each, or the least, mean and most
        chips.append(f"{f'{n[0]:g} to {n[-1]:g}' if isinstance(n, list) else n} candidates each")
    if "mode" in drawn:
        chips.append(f"mode {drawn['mode']}")
    chips.append(f"candidate set {str(drawn['hash'])[:12]}" if "hash" in drawn else "all items are candidates")
    return [*chips, *([seeds] if seeds else [])]


def _ablation_reports(row: Row) -> dict[str, dict[str, str]]:
    """What the runs report of their ablations beside the metrics: numbers of changed prompts, reasons for none."""
    reports = [facts.look_up(result, "ablations") or {} for result in row.results]
    changed = [(name, found["n_changed"]) for one in reports for name, found in (one.get("changed") or {}).items()]
    counts = {name: sorted({n for other, n in changed if other == name}) for name, _ in changed}
    return {
        "changed": {name: " · ".join(f"{n:,}" for n in found) for name, found in counts.items()},
        "left_out": {name: reason for one in reports for name, reason in (one.get("left_out") or {}).items()},
    }


def _strip_axis(estimates: Iterable[Estimate]) -> Callable[[float], str]:
    """From a value to its place on the strips of these estimates, which all hold 0."""
    values = [value for e in estimates for value in (e.mean, e.low, e.high) if facts.is_number(value)]
    axis = linear_axis("", [0.0, *values])
    return lambda value: f"{plot.STRIP_WIDTH * axis.place(value):.1f}"


@cache
def template(name: str) -> Template:
    """A template of this folder, by the name of its file."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["finite"] = facts.is_number
    environment.filters["data_url"] = downloads.data_url
    return environment.get_template(name)
