from __future__ import annotations

import json
import math
import re

from recbole_llmtrsr.evaluation.comparison.cells import STRANGE_PROMPTS, correction, places
from recbole_llmtrsr.evaluation.comparison.comparison import AblationEstimate, Comparison, GroupEstimate, Row, from_json
from recbole_llmtrsr.evaluation.comparison.estimates import PairTest
from recbole_llmtrsr.evaluation.comparison.exports import as_csv
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate
from recbole_llmtrsr.evaluation.comparison.tables import (
    ablation_table,
    as_latex,
    as_markdown,
    comparison_table,
    difference_table,
    group_tables,
    write_comparison,
)


def costs(seconds_per_1000_users: float | None, *peaks: float | None) -> dict:
    stages = zip(("training", "validation", "evaluation"), peaks)
    rate = {"seconds_per_1000_users": seconds_per_1000_users}
    return {name: {"peak_memory_gib": peak, **(rate if name == "evaluation" else {})} for name, peak in stages}


def result(**changes) -> dict:
    return {
        "dataset": "tiny",
        "test_result": {"recall@3": 0.5},
        "epochs_trained": 2,
        "seconds": {"training": 12.6},
        "cost": costs(61.25, 0.5, 1.254, 0.75),
        "n_test": 4,
        "candidates": {"test": {"hash": "0123456789abcdef"}},
        "options": {"valid_metric": "MRR@3"},
        **changes,
    }


def row(label: str, metrics: dict[str, Estimate], seeds=(7,), results=None, groups=(), ablations=()) -> Row:
    return Row(label, seeds, metrics, tuple(groups), tuple(ablations), tuple(results or [result()] * len(seeds)))


def one(mean: float, low: float = math.nan, high: float = math.nan, spread: float | None = None) -> Estimate:
    return Estimate(mean, low, high, spread)


def unpadded(table: str) -> str:
    return re.sub("-{3,}", "---", re.sub(" +", " ", table))


def alone(*rows: Row, tests=(), random=None) -> Comparison:
    return Comparison("tiny", rows, tuple(tests), random)


TABLE = """\
tiny, test, 4 targets, candidates given, seed 7, mean [95 % interval over users]

| model | recall@3 | mrr@3 | epochs | training (s) | s per 1,000 users | peak memory (GiB; CPU: whole process) | candidates |
|:---|---:|---:|---:|---:|---:|---:|:---|
| LLMTRSR | 0.5000 [.250, .750] | 0.1235 [.100, .200] | 2 | 13 | 61.2 | 1.25 | 0123456789ab |
| Pop | 1.0000 [.900, 1.000] | 0.0000 [-.100, .000] | 1 | 0 | - | - | 0123456789ab |
| random ranking | 0.5000 | 0.3056 | - | - | - | - | 0123456789ab |
"""  # noqa: E501


def test_a_table_has_a_line_per_row_in_their_order_and_random_ranking_last():
    comparison = alone(
        row("LLMTRSR", {"recall@3": one(0.5, 0.25, 0.75), "mrr@3": one(0.12346, 0.1, 0.2)}),
        row(
            "Pop",
            {"recall@3": one(1, 0.9, 1), "mrr@3": one(-0.00001, -0.1, -0.0001)},
            results=[result(epochs_trained=1, seconds={"training": 0.2}, cost=costs(None, None, None, None))],
        ),
        random={"recall@3": 0.5, "mrr@3": 0.30556},
    )
    assert unpadded(comparison_table(comparison)) == TABLE


def test_several_seeds_show_their_spread_and_mean_costs():
    results = [
        result(epochs_trained=2, seconds={"training": 10}),
        result(epochs_trained=3, seconds={"training": 20}, cost=costs(63.25, 0.5, 2.0, 0.75)),
    ]
    table = comparison_table(alone(row("A", {"mrr@3": one(0.5, 0.25, 0.75, 0.0123)}, (1, 2), results), random={}))
    assert table.startswith(
        "tiny, test, 4 targets, candidates given, seeds 1, 2,"
        " mean ± standard deviation over seeds [95 % interval over users]\n"
    )
    assert "| A | 0.5000 ±.012 [.250, .750] | 2.5 | 15 | 62.2 | 2.00 | 0123456789ab |" in unpadded(table)


def test_rows_with_other_seeds_say_so():
    metrics = {"mrr@3": one(0.5, 0.25, 0.75)}
    table = comparison_table(alone(row("A", metrics, (1, 2)), row("B", metrics, (1,)), random={"mrr@3": 0.1}))
    assert table.startswith(
        "tiny, test, 4 targets, candidates given; seeds 1, 2 of A; 1 of B;"
        " mean ± standard deviation over seeds [95 % interval"
    )


def test_a_mode_that_another_program_does_not_know_is_that_of_the_runs_beside_it():
    drawn = result(candidates={"test": {"hash": "0123456789abcdef", "mode": "uni20"}})
    told = [row("NRMS", {}), row("A", {}, results=[drawn])]
    assert comparison_table(alone(*told)).startswith("tiny, test, 4 targets, candidates uni20, seed 7\n")
    assert comparison_table(alone(told[0])).startswith("tiny, test, 4 targets, candidates given, seed 7\n")
    everything = row("A", {}, results=[result(candidates={})])
    assert comparison_table(alone(everything)).startswith("tiny, test, 4 targets, all items, seed 7\n")


def test_what_a_row_does_not_know_is_a_dash():
    bare = {"dataset": "tiny", "test_result": None, "epochs_trained": None, "cost": None, "candidates": {}}
    comparison = alone(row("A", {}, results=[bare]), row("B", {"rmse": one(1.25)}))
    assert comparison_table(comparison).splitlines()[0] == "tiny, test, - targets, candidates given, seed 7"
    assert "| A | - | - | - | - | - | all items |" in unpadded(comparison_table(comparison))
    assert "| B | 1.2500 | 2 | 13 |" in unpadded(comparison_table(comparison))
    assert "| A | - | - | - | - | all items |" in unpadded(comparison_table(alone(comparison.rows[0])))


def test_a_pipe_in_a_name_starts_no_column():
    assert "| a\\|b | 0.5000 |" in unpadded(comparison_table(alone(row("a|b", {"mrr@3": one(0.5)}))))


def three() -> Comparison:
    rows = [
        row(label, {"recall@3": one(r), "mrr@3": one(m)})
        for label, r, m in (("A", 1.0, 0.1), ("B", 0.0, 0.3), ("C", 0.0, 0.2))
    ]
    tests = [
        PairTest("A", "B", "mrr@3", one(-0.2, -0.25, -0.125, 0.01), 0.0001, 0.0003),
        PairTest("A", "C", "mrr@3", one(-0.1, -0.2, 0.1), 0.2, 0.4),
        PairTest("B", "C", "mrr@3", one(0.1), 0.0124, 0.0248),
        PairTest("A", "B", "recall@3", one(1.0, 1.0, 1.0), 0.5, 1.0),
    ]
    return alone(*rows, tests=tests)


def test_differences_are_those_of_the_best_by_the_metric_that_chose_the_epochs():
    lines = unpadded(difference_table(three()).captioned()).splitlines()
    assert lines[0].startswith("B minus the other: difference [95 % interval over users], p of")
    assert lines[0].endswith("Holm-corrected for all pairs of 3 models")
    assert lines[2:] == [
        "| B minus | recall@3 | mrr@3 |",
        "|:---|---:|---:|",
        "| A | -1.0000 [-1.000, -1.000] p=1.000 | +0.2000 ±.010 [.125, .250] p<.001 |",
        "| C | - | +0.1000 p=.025 |",
    ]


def test_without_that_metric_the_first_tells_the_best():
    comparison = three()
    rows = tuple(row(r.label, r.metrics, results=[result(options={})]) for r in comparison.rows)
    assert difference_table(Comparison("tiny", rows, comparison.tests, None)).caption.startswith("A minus the other")
    assert difference_table(alone(*rows)).captioned() == ""


def test_a_metric_is_primary_if_it_alone_chose_the_epochs_of_those_that_tell():
    comparison = three()
    a, b, c = comparison.rows
    silent = row("A", a.metrics, results=[result(options={})])
    assert "mrr@3, which chose the epochs, is the primary" in correction(alone(silent, b, c))
    assert difference_table(alone(silent, b, c, tests=comparison.tests)).caption.startswith("B minus the other")
    other = row("C", c.metrics, results=[result(options={"valid_metric": "Recall@3"})])
    assert correction(alone(a, b, other)) == "Holm's correction is over the pairs of one metric, not over metrics."
    assert correction(alone(silent)) == correction(alone(a, b, other))


def test_smaller_is_better_for_some():
    rows = [{"rmse": one(2), "x": one(2)}, {"rmse": one(1), "x": one(1)}, {}, {"rmse": one(math.nan)}, {"rmse": one(2)}]
    assert places(rows, "rmse") == [1, 0, None, None, 1]
    assert places(rows, "x") == [0, 1, None, None, None]


def test_ablations_are_changes_with_their_sign():
    ablations = [AblationEstimate("no summary", {"mrr@3": one(-0.05, -0.06, -0.04)})]
    comparison = alone(row("A", {"mrr@3": one(0.5)}, ablations=ablations), row("B", {"mrr@3": one(0.5)}))
    assert unpadded(ablation_table(comparison).captioned()).splitlines()[2:] == [
        "| model | ablation | mrr@3 |",
        "|:---|:---|---:|",
        "| A | no summary | -0.0500 [-.060, -.040] |",
    ]
    assert ablation_table(alone(comparison.rows[1])).captioned() == ""
    assert "a single wording." in STRANGE_PROMPTS
    assert as_markdown(comparison).endswith(f"\n{ablation_table(comparison).captioned()}\n{STRANGE_PROMPTS}\n")
    assert STRANGE_PROMPTS not in as_markdown(alone(comparison.rows[1]))


def grouped() -> Comparison:
    def groups(mean: float) -> list[GroupEstimate]:
        return [
            GroupEstimate("target popularity", "cold", 1, {"mrr@3": one(mean)}, {"mrr@3": 0.3056}),
            GroupEstimate("target popularity", "1-4 events", 30, {"mrr@3": one(mean, 0.1, 0.2)}, {"mrr@3": 0.5}),
        ]

    prompt = GroupEstimate("prompt", "trimmed", 31, {"mrr@3": one(0.5)})
    metrics = {"rmse": one(0.5), "mrr@3": one(0.5)}
    return alone(row("A", metrics, groups=[*groups(0.125), prompt]), row("B", metrics, groups=groups(0.25)))


GROUPS = """\
| target popularity | model | histories | mrr@3 |
|:---|:---|---:|---:|
| cold | A | 1 | 0.1250 |
| cold | B | 1 | 0.2500 |
| cold | random ranking | 1 | 0.3056 |
| 1-4 events | A | 30 | 0.1250 [.100, .200] |
| 1-4 events | B | 30 | 0.2500 [.100, .200] |
| 1-4 events | random ranking | 30 | 0.5000 |

| prompt | model | histories | mrr@3 |
|:---|:---|---:|---:|
| trimmed | A | 31 | 0.5000 |
"""


def test_groups_are_listed_however_small_with_the_models_side_by_side():
    assert unpadded("\n".join(table.markdown() for table in group_tables(grouped()))) == GROUPS
    assert group_tables(three()) == []


def test_the_tables_of_the_file_begin_with_the_comparison():
    comparison = three()
    differences = difference_table(comparison).captioned()
    note = (
        "Values are averaged over seeds first. Intervals and p values then cover the variation between users, for fixed"
        " trained weights."
    )
    assert as_markdown(comparison) == (
        f"{comparison_table(comparison)}\n{note}\n\n## Differences\n\n{differences}\n"
        "Holm's correction is over the pairs of one metric: mrr@3, which chose the epochs, is the primary one, the"
        " others are exploratory.\n"
    )
    assert unpadded(as_markdown(grouped())).endswith(
        f"\n## Groups\n\n{GROUPS}\nGroups of fewer than 20 users have no interval. A history with several targets is"
        " grouped by the most popular of them, and by the longest text.\n"
    )
    with_interval = alone(row("A", {"mrr@10": one(0.5, 0.4, 0.6)}))
    assert as_markdown(with_interval) == f"{comparison_table(with_interval)}\n{note}\n"
    single = alone(row("A", {"recall@10": one(0.5), "mrr@10": one(0.5)}), random={"recall@10": 0.4, "mrr@10": 0.2})
    assert as_markdown(single) == comparison_table(single)


LATEX = r"""
% B minus the other: difference [95 % interval over users], p of a paired randomization test, Holm-corrected for all pairs of 3 models
% Holm's correction is over the pairs of one metric: mrr@3, which chose the epochs, is the primary one, the others are exploratory.
\begin{tabular}{lrr}
\toprule
B minus & recall@3 & mrr@3 \\
\midrule
A & $-$1.0000 [$-$1.000, $-$1.000] p=1.000 & +0.2000 $\pm$.010 [.125, .250] p$<$.001 \\
C & - & +0.1000 p=.025 \\
\bottomrule
\end{tabular}

% Costs
\begin{tabular}{lrrrrl}
\toprule
model & epochs & training (s) & s per 1,000 users & peak memory (GiB; CPU: whole process) & candidates \\
\midrule
A & 2 & 13 & 61.2 & 1.25 & 0123456789ab \\
B & 2 & 13 & 61.2 & 1.25 & 0123456789ab \\
C & 2 & 13 & 61.2 & 1.25 & 0123456789ab \\
\bottomrule
\end{tabular}
"""  # noqa: E501


def test_every_table_is_there_in_latex_too():
    assert as_latex(three()).endswith("\\end{tabular}\n" + LATEX)
    found = as_latex(grouped())
    assert "% By target popularity\n% Groups of fewer than 20 users" in found
    assert "by the longest text.\n\\begin{tabular}{llrr}\n" in found
    assert "cold & random ranking & 1 & 0.3056 \\\\\n" in found
    assert "trimmed & A & 31 & 0.5000 \\\\\n\\bottomrule" in found
    assert "minus" not in found


def test_all_files_are_written_and_json_holds_everything(tmp_path):
    comparison = three()
    write_comparison(tmp_path, comparison)
    assert {path.name for path in tmp_path.iterdir()} == {f"comparison.{form}" for form in ("csv", "json", "md", "tex")}
    again = from_json(json.loads((tmp_path / "comparison.json").read_text()))
    assert as_markdown(again) == (tmp_path / "comparison.md").read_text() == as_markdown(comparison)
    assert as_csv(again) == (tmp_path / "comparison.csv").read_text()
    assert as_latex(again) == (tmp_path / "comparison.tex").read_text()
