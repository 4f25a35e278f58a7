"""The page as text: what it says, what it escapes, what it does not need."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import pytest
from html_page import Page

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison import cells
from recbole_llmtrsr.evaluation.comparison.cells import main_metric
from recbole_llmtrsr.evaluation.comparison.comparison import AblationEstimate, GroupEstimate, PairTest, from_json
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate
from recbole_llmtrsr.report.page import page, write_report

NASTY = """x"'><script>alert(1)</script><b onload=y>&amp;{{ 7 * 7 }}"""


def test_the_verdict_says_who_leads_by_how_much_and_whether_that_is_certain(comparison):
    text = Page(page(comparison)).text
    assert "LLMTRSR@ recurrent leads with mrr@2 = 0.6000 [.550, .650]" in text
    assert "It differs by +0.0200 [-.010, .050] from Pop, the second." in text
    assert "The difference is not significant (paired randomization test, Holm-corrected p = 0.0800 )" in text
    assert "Random ranking of the same candidates would reach 0.5000." in text
    certain = replace(comparison, tests=(replace(comparison.tests[0], p_holm=0.049),))
    assert (
        "The difference is significant (paired randomization test, Holm-corrected p = 0.0490 )."
        in Page(page(certain)).text
    )


def test_the_candidates_and_seeds_are_said_at_the_top(comparison):
    top = Page(page(comparison)).text.split("How to read this page")[0]
    for chip in ("1,200 test targets", "3 candidates each", "mode uni2", "candidate set abcdef012345"):
        assert chip in top
    assert "seeds 1, 2 of LLMTRSR@recurrent, Pop; 0 of elsewhere" in top
    several = {**comparison.rows[0].results[0], "candidates": {"test": {"n_per_history": [2, 30.5, 299], "hash": "ab"}}}
    rows = (replace(comparison.rows[0], results=(several,)), *comparison.rows[1:])
    assert "2 to 299 candidates each" in Page(page(replace(comparison, rows=rows))).text


def test_every_part_of_the_comparison_is_on_the_page(comparison):
    text = Page(page(comparison)).text
    for told in (
        *("Results", "Differences between models", "Quality against time and cost", "Results by group"),
        *("Does the model use its prompt?", "Commands, options and versions"),
        "0.7500 ★ [.700, .800] ±.010",
        "Pop +0.0200 [-.010, .050] ±.003 0.0800 not significant 0.0400",
        "no recent items changes 1,199 prompts -0.2000 ↓ [-.250, -.150] ±.010",
        f"Holm's method corrects. {cells.correction(comparison)} Brackets and lines",
        f"Brackets hold 95 % intervals over users. {cells.GIVEN_WEIGHTS} ± is the standard deviation over seeds.",
        cells.ABOUT_GROUPS,
        "shuffled history -0.0100 [-.030, .010] ±.010",
        "The ablation 'no summary' was left out: no history has a summary.",
        "python run.py --model=LLMTRSR@recurrent,Pop --seeds=1,2",
        "epochs 4 1 -",
        "summary recurrent (LLMTRSR@recurrent)",
        "Not reported by elsewhere.",
        "test candidates, hash abcdef0123456789",
        # and, for readers who do not know them, what is compared
        "among negative items. Negatives of a target: 2 items drawn uniformly. Where most items are rarely",
        "How to read this page A history holds the events of a user before the target",
        "LLMTRSR a language model reads a summary of the user's history, the recent items and one candidate",
        "name@variant the model with the options of that variant, which are listed under Options.",
        "random ranking the expectation over all orders of the candidates; a model that is no better",
        "recall@K share of a history's targets that are among the top K",
        "mrr@K 1 / rank of the first target, 0 where none is among the top K.",
        cells.STRANGE_PROMPTS,
        "What each ablation changes no recent items the prompt says 'none' instead of the recent items; the summary",
    ):
        assert told in text
    for absent in ("TALLRec", "ndcg", "no summary the prompt", "Other candidate sets"):
        assert absent not in text


def test_every_picture_has_a_name_and_says_its_numbers(comparison):
    made = page(comparison)
    pictures = re.findall(r"<svg class=\"plot\".*?</svg>", made, re.DOTALL)
    assert len(pictures) == 6
    for picture in pictures:
        name, said = re.search(r'aria-labelledby="(\S+) (\S+)"', picture).groups()
        assert re.search(f'<title id="{name}">[^<]+</title>', picture)
        assert re.search(f'<desc id="{said}">[^<]*0[.]\\d{{4}}[^<]*</desc>', picture)
    ids = re.findall(r'\bid="([^"]+)"', made)
    assert len(ids) == len(set(ids)) == 3 * 6 + 6


def test_the_page_needs_nothing_else(comparison):
    made = page(comparison)
    read = Page(made)
    assert {"script", "link", "img"} & set(read.tags) == set()
    names = {name for _, name, _ in read.attributes}
    assert not names & {"src", "srcset", "action", "style"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", made)


def test_names_of_users_are_text_and_nothing_more(comparison, renamed):
    made = page(renamed(comparison, NASTY))
    read = Page(made)
    assert NASTY in "".join(read.texts)
    assert {"script", "b"} & set(read.tags) == set()
    assert "onload" not in {name for _, name, _ in read.attributes}
    assert "49" not in re.sub(r"0[.]\d+|[.]\d+", "", "".join(read.texts)).split()
    assert read.tags == Page(page(renamed(comparison, "six words and no tag within"))).tags


@pytest.mark.parametrize("n_rows", [1, 2])
def test_few_runs_that_know_little_make_a_page_too(comparison, n_rows):
    bare = replace(comparison.rows[2], metrics={"recall@1": Estimate(0.2, float("nan"), float("nan"), None)})
    rows = tuple(replace(bare, label=f"bare {n}", results=({"dataset": "tiny"},)) for n in range(n_rows))
    text = Page(page(replace(comparison, rows=rows, tests=(), random=None))).text
    assert ("bare 0 reaches recall@1 = 0.2000" in text) == (n_rows == 1)
    assert ("bare 0 leads with recall@1 = 0.2000" in text) == (n_rows == 2)
    assert "nan" not in text
    assert "Differences between models" not in text


def test_a_comparison_without_metrics_is_refused(comparison):
    rows = tuple(replace(row, metrics={}) for row in comparison.rows)
    with pytest.raises(UserError, match=r"report: no run has test metrics: give the split a test part"):
        page(replace(comparison, rows=rows))


def test_the_metric_that_chose_the_epochs_leads_the_page(comparison):
    assert main_metric(comparison) == "mrr@2"
    assert main_metric(replace(comparison, rows=comparison.rows[2:])) == "recall@1"


def test_the_primary_metric_is_the_first_column_of_every_table(comparison):
    made = page(comparison)
    heads = [
        re.findall(r"<th scope=\"col\">([^<]+)</th>", head) for head in re.findall(r"<thead>.*?</thead>", made, re.S)
    ]
    of_metrics = [[name for name in head if "@" in name] for head in heads]
    assert [head for head in of_metrics if head] == [
        ["mrr@2", "recall@1", "recall@2"]
    ] * 5  # results, groups, ablations
    assert re.findall(r'scope="rowgroup"><span>(\S+@\d)', made) == ["mrr@2", "recall@2"]  # all pairs
    assert re.findall("<figcaption>(.*?) <a", made)[0] == "recall by K"
    assert "The first column, mrr@2, is the metric that chose the epochs." in Page(made).text
    of_others = Page(page(replace(comparison, rows=comparison.rows[2:])))  # no run reports what it was chosen by
    assert "is the metric that chose the epochs" not in of_others.text


def test_the_contents_lead_to_every_section(comparison):
    for one in (comparison, replace(comparison, rows=comparison.rows[2:], tests=())):
        attributes = Page(page(one)).attributes
        sections = [value for tag, name, value in attributes if (tag, name) == ("section", "id")]
        links = [value for _, name, value in attributes if name == "href" and value.startswith("#")]
        assert links == [f"#{section}" for section in sections]
    assert sections == ["results", "setup"]


def test_one_legend_is_for_all_plots(comparison):
    made = page(comparison)
    assert made.count('class="legend"') == 1
    legend = re.search(r'<ul class="legend".*?</ul>', made, re.DOTALL)[0]
    assert Page(legend).text.split() == ["LLMTRSR@recurrent", "Pop", "elsewhere", "random", "ranking"]
    assert 'class="legend"' not in page(replace(comparison, rows=comparison.rows[2:]))  # no plots


def test_the_command_is_shown_as_it_was_typed(comparison):
    first, *others = comparison.rows
    results = [dict(first.results[0], command=c) for c in (None, "python /opt/a/run.py '--eval_args={mode: full}'")]
    text = Page(page(replace(comparison, rows=(replace(first, results=tuple(results)), *others)))).text
    assert 'Command python run.py --eval_args="{mode: full}" Options' in text


def test_the_page_of_a_comparison_read_from_its_file_is_the_same(comparison):
    assert page(from_json(asdict(comparison))) == page(comparison)


def test_a_large_comparison_makes_a_small_page(comparison):
    """Six models, nine metrics, three seeds, all groups and ablations."""
    names = [f"{metric}@{k}" for metric in ("recall", "mrr", "ndcg") for k in (3, 5, 10)]
    metrics = {name: Estimate(0.512345, 0.49, 0.53, 0.01) for name in names}
    groups = tuple(
        GroupEstimate(kind, f"{n}-{n + 9} {kind}", 1000, metrics)
        for kind in ("history length", "target popularity", "target text")
        for n in range(5)
    )
    ablations = tuple(AblationEstimate(f"ablation number {n}", metrics) for n in range(6))
    options = {f"option_{n}": f"its value {n}" for n in range(200)}
    results = ({**comparison.rows[0].results[0], "options": options},) * 3
    row = replace(comparison.rows[0], metrics=metrics, groups=groups, ablations=ablations, results=results)
    rows = tuple(replace(row, label=f"Model{n}") for n in range(6))
    tests = tuple(
        PairTest(f"Model{a}", f"Model{b}", name, metrics[name], 0.01, 0.02)
        for name in names
        for a in range(6)
        for b in range(a)
    )
    assert 50_000 < len(page(replace(comparison, rows=rows, tests=tests)).encode()) < 600_000


def test_the_report_is_written_into_the_folder(comparison, tmp_path):
    path = write_report(tmp_path / "new", comparison)
    assert path == tmp_path / "new" / "report.html"
    assert path.read_text(encoding="utf-8") == page(comparison)


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(comparison, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"report: .*report[.]html cannot be written .*choose a writable folder"):
        write_report(tmp_path / "file", comparison)
