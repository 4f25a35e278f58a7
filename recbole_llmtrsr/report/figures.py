"""The plots of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recbole_llmtrsr.evaluation.comparison.cells import RANDOM, cell, chance_of_groups, figure
from recbole_llmtrsr.evaluation.comparison.comparison import Comparison, Estimate, Row
from recbole_llmtrsr.report.axis import Axis, category_axis, linear_axis, log_axis
from recbole_llmtrsr.report.facts import is_number, look_up
from recbole_llmtrsr.report.plot import Plot, Point, Series, beside

_GROUPS = ("history length", "target popularity", "target text")  # without 'prompt': models trim different prompts
_LEAST_SECONDS = 0.001  # the resolution of the times, and above 0 for the logarithm


def plots_by_k(comparison: Comparison, metrics: Sequence[str]) -> list[Plot]:
    """A plot for each metric with several cut-offs."""
    families: dict[str, list[int]] = {}
    for metric in metrics:
        name, _, k = metric.rpartition("@")
        if name and k.isdecimal():
            families.setdefault(name, []).append(int(k))
    plots = []
    for name, cuts in families.items():
        if len(cuts) > 1:
            keys = {f"{name}@{k}": (f"K = {k}",) for k in sorted(cuts)}
            random = _random(comparison, [(at, key) for at, key in enumerate(keys)])
            plots.append(_by_category(f"{name} by K", keys, comparison.rows, lambda row: row.metrics, random))
    return plots


def plots_by_group(comparison: Comparison, metric: str) -> list[Plot]:
    """A plot for each kind of group."""
    plots, of_chance = [], chance_of_groups(comparison)
    for kind in _GROUPS:
        sizes: dict[str, list[int]] = {}
        for row in comparison.rows:
            for group in row.groups:
                if group.kind == kind:
                    sizes.setdefault(group.name, []).append(group.n)
        if sizes:
            names = {name: (*name.split(), f"{max(n):,}") for name, n in sizes.items()}

            def of_groups(row: Row, kind: str = kind) -> Mapping[str, Estimate]:
                return {g.name: g.metrics[metric] for g in row.groups if g.kind == kind and metric in g.metrics}

            chance = {g.name: g.random[metric] for g in of_chance if g.kind == kind and metric in g.random}
            known = [(at, chance[name]) for at, name in enumerate(names) if name in chance]
            plots.append(_by_category(f"{metric} by {kind}", names, comparison.rows, of_groups, _line(known)))
    return plots


def plots_by_cost(comparison: Comparison, metric: str) -> list[Plot]:
    """A metric against time and cost, where they are known."""
    training, ranking = ("seconds", "training"), ("cost", "evaluation", "seconds_per_1000_users")
    found = (
        _against(comparison, metric, "training time", "seconds of training, validations included", training),
        _against(comparison, metric, "cost of ranking", "seconds for 1,000 users", ranking),
        _while_training(comparison),
    )
    return [plot for plot in found if plot is not None]


def _by_category(
    title: str,
    categories: Mapping[str, tuple[str, ...]],
    rows: Sequence[Row],
    estimates: Callable[[Row], Mapping[str, Estimate]],
    random: tuple[Series, ...] = (),
) -> Plot:
    series = []
    for number, (row, aside) in enumerate(zip(rows, beside(len(rows)))):
        known = estimates(row)
        points = [
            _point(at + aside, known[name], " ".join(lines))
            for at, (name, lines) in enumerate(categories.items())
            if name in known and is_number(known[name].mean)
        ]
        series.append(Series(row.label, number, tuple(points)))
    return _plot(title, category_axis("", list(categories.values())), (*series, *random))


def _against(comparison: Comparison, metric: str, what: str, label: str, path: tuple[str, ...]) -> Plot | None:
    series = []
    for number, row in enumerate(comparison.rows):
        costs = [(look_up(result, *path), result) for result in row.results]
        seeds = [
            Point(max(cost, _LEAST_SECONDS), score, text=f"a seed: {figure(cost, ',.1f')} s, {figure(score)}")
            for cost, result in costs
            if is_number(cost) and is_number(score := look_up(result, "test_result", metric))
        ]
        if seeds and metric in row.metrics:
            mean = sum(point.x for point in seeds) / len(seeds)
            middle = _point(mean, row.metrics[metric], f"{figure(mean, ',.1f')} s")
            series.append(Series(row.label, number, (middle,), tuple(seeds) if len(seeds) > 1 else (), joined=False))
    if not series:
        return None
    x = log_axis(label, [p.x for s in series for p in (*s.points, *s.seeds)])
    return _plot(f"{metric} and {what}", x, (*series, *_random(comparison, [(x.low, metric), (x.high, metric)])))


def _while_training(comparison: Comparison) -> Plot | None:
    """Validation scores by time, of the first seed, for runs that recorded them."""
    series, metrics = [], set()
    for number, row in enumerate(comparison.rows):
        result = row.results[0]
        points = [
            Point(max(v["seconds"], _LEAST_SECONDS), v["score"], text=f"{v['seconds']:,.1f} s {figure(v['score'])}")
            for v in result.get("validations") or ()
            if is_number(v["score"])
        ]
        if points:
            series.append(Series(row.label, number, tuple(points)))
            metrics.add(str(look_up(result, "options", "valid_metric")).lower())
    if not series:
        return None
    x = log_axis("seconds of training, validations included", [p.x for s in series for p in s.points])
    return _plot(f"validation {' / '.join(sorted(metrics))} while training, first seed", x, tuple(series))


def _plot(title: str, x: Axis, series: tuple[Series, ...]) -> Plot:
    heights = [h for s in series for p in (*s.points, *s.seeds) for h in (p.y, p.low, p.high) if is_number(h)]
    return Plot(title, x, linear_axis("", heights or [0.0, 1.0]), series)


def _point(x: float, estimate: Estimate, where: str) -> Point:
    has_interval = is_number(estimate.low) and is_number(estimate.high)
    low, high = (estimate.low, estimate.high) if has_interval else (None, None)
    return Point(x, estimate.mean, low, high, f"{where}, {cell(estimate)}")


def _random(comparison: Comparison, places: Sequence[tuple[float, str]]) -> tuple[Series, ...]:
    """Random ranking among all rows; empty where it is not known."""
    known = comparison.random or {}
    return _line([(x, known[metric]) for x, metric in places if is_number(known.get(metric))])


def _line(chance: Sequence[tuple[float, float]]) -> tuple[Series, ...]:
    points = tuple(Point(x, mean, text=figure(mean)) for x, mean in chance)
    return (Series(RANDOM, None, points),) if points else ()
