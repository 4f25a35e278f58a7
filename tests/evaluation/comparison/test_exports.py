from __future__ import annotations

import csv
import math
from dataclasses import replace
from io import StringIO

import pytest

from recbole_llmtrsr.evaluation.comparison.comparison import AblationEstimate, Comparison, GroupEstimate, PairTest, Row
from recbole_llmtrsr.evaluation.comparison.exports import as_csv, marked_metrics
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate
from recbole_llmtrsr.evaluation.comparison.tables import as_latex, as_markdown

NAN = math.nan


COSTS = {
    "epochs_trained": 2,
    "seconds": {"training": 12.5},
    "cost": {"training": {"peak_memory_gib": 1.5}, "evaluation": {"seconds_per_1000_users": 61.25}},
}


def comparison() -> Comparison:
    results = [{"n_test": 4, "test_result": {"mrr@3": value}, **COSTS} for value in (0.4, 0.6)]
    first = Row(
        "LLMTRSR@a_b",
        (1, 2),
        {"mrr@3": Estimate(0.5, 0.25, 0.75, 0.125), "itemcoverage@3": Estimate(0.1, NAN, NAN, None)},
        (GroupEstimate("target popularity", "cold", 1, {"mrr@3": Estimate(1 / 3, NAN, NAN, 0.5)}, {"mrr@3": 0.25}),),
        (AblationEstimate("no summary", {"mrr@3": Estimate(-0.125, -0.25, 0.0, None)}),),
        tuple(results),
    )
    second = Row(
        "100% Pop", (1,), {"mrr@3": Estimate(0.4375, 0.25, 0.5, None)}, (), (), ({"n_test": 4, "test_result": None},)
    )
    test = PairTest("LLMTRSR@a_b", "100% Pop", "mrr@3", Estimate(0.0625, -0.5, 0.5, None), 0.25, 0.75)
    return Comparison("tiny", (first, second), (test,), {"mrr@3": 0.375})


CSV = """\
label,seed,kind,group,metric,mean,low,high,spread,n,p,p_holm
LLMTRSR@a_b,all,,,mrr@3,0.5,0.25,0.75,0.125,4,,
LLMTRSR@a_b,all,,,itemcoverage@3,0.1,,,,4,,
LLMTRSR@a_b,1,,,mrr@3,0.4,,,,4,,
LLMTRSR@a_b,1,cost,,epochs,2,,,,,,
LLMTRSR@a_b,1,cost,,training (s),12.5,,,,,,
LLMTRSR@a_b,1,cost,,"s per 1,000 users",61.25,,,,,,
LLMTRSR@a_b,1,cost,,peak memory (GiB; CPU: whole process),1.5,,,,,,
LLMTRSR@a_b,2,,,mrr@3,0.6,,,,4,,
LLMTRSR@a_b,2,cost,,epochs,2,,,,,,
LLMTRSR@a_b,2,cost,,training (s),12.5,,,,,,
LLMTRSR@a_b,2,cost,,"s per 1,000 users",61.25,,,,,,
LLMTRSR@a_b,2,cost,,peak memory (GiB; CPU: whole process),1.5,,,,,,
LLMTRSR@a_b,all,target popularity,cold,mrr@3,0.3333333333333333,,,0.5,1,,
LLMTRSR@a_b,all,ablation,no summary,mrr@3,-0.125,-0.25,0.0,,4,,
100% Pop,all,,,mrr@3,0.4375,0.25,0.5,,4,,
LLMTRSR@a_b,all,minus,100% Pop,mrr@3,0.0625,-0.5,0.5,,4,0.25,0.75
random ranking,all,,,mrr@3,0.375,,,,4,,
random ranking,all,target popularity,cold,mrr@3,0.25,,,,1,,
"""

LATEX = r"""
\begin{tabular}{lrr}
\toprule
Model & mrr@3 & itemcoverage@3 \\
\midrule
LLMTRSR@a\_b & \textbf{0.5000} {\scriptsize $\pm$.125 [.250, .750]} & \textbf{0.1000} \\
100\% Pop & \underline{0.4375} {\scriptsize [.250, .500]} & - \\
\midrule
random ranking & 0.3750 & - \\
\bottomrule
\end{tabular}
"""


def test_csv_has_every_number_unrounded():
    assert as_csv(comparison()) == CSV


def test_a_name_with_a_comma_stays_one_column():
    row = Row('a,"b"', (1,), {"x": Estimate(1, NAN, NAN, None)}, (), (), ({"test_result": {}},))
    lines = list(csv.reader(StringIO(as_csv(Comparison("d", (row,), (), None)))))
    assert lines[1] == ['a,"b"', "all", "", "", "x", "1", "", "", "", "", "", ""]


def test_latex_marks_the_best_and_the_second():
    found = marked_metrics(comparison())
    assert found.endswith(LATEX)
    assert found.startswith("% Needs \\usepackage{booktabs}.")
    assert "\n% Values are averaged over seeds first. Intervals and p values then cover" in found


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("[Ours]", "{}[Ours]"),  # no argument of the line before
        ("*x", "{}*x"),
        ("a|b>c", "a$|$b$>$c"),
        ("a_b&c%d$e#f{g}~^\\", r"a\_b\&c\%d\$e\#f\{g\}\textasciitilde{}\textasciicircum{}\textbackslash{}"),
    ],
)
def test_latex_escapes_names(name, printed):
    row = Row(name, (1,), {}, (), (), ({"test_result": {}},))
    assert rf"{printed} \\" in marked_metrics(Comparison("d", (row,), (), None)).splitlines()


@pytest.mark.parametrize("label", ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a\r=1"])
def test_no_text_is_a_formula_or_begins_a_line_in_a_spreadsheet(label):
    made = comparison()
    renamed = replace(made, rows=(replace(made.rows[0], label=label), *made.rows[1:]))
    text = as_csv(renamed)
    assert len(text.splitlines()) == len(as_csv(made).splitlines())
    labels = {row[0] for row in csv.reader(StringIO(text))} - {"label", "100% Pop", "random ranking", "LLMTRSR@a_b"}
    assert labels == {"a =1" if label[0] == "a" else "'" + label.replace("\t", " ").replace("\r", " ")}


def test_no_name_begins_a_line_of_latex_or_a_row_of_markdown():
    name = "A\n\\input{/etc/passwd}%|\r\u2028\x85x"
    made = replace(comparison(), dataset=name, tests=(replace(comparison().tests[0], first=name),))
    made = replace(made, rows=(replace(made.rows[0], label=name), *made.rows[1:]))
    lines = [line for line in as_latex(made).split("\n") if "input" in line]
    assert lines
    assert all(line.startswith("% ") or r"A \textbackslash{}input\{/etc/passwd\}\%" in line for line in lines)
    assert as_latex(made).splitlines() == as_latex(made).split("\n")[:-1]
    assert {line[:1] for line in as_markdown(made).splitlines() if "input" in line} == {"|", "A"}  # "A": the caption
    assert as_markdown(made).splitlines() == as_markdown(made).split("\n")[:-1]
