"""The page as text: what it says, what it escapes, what it does not need."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import pytest
from html_page import Page

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.comparison import AblationEstimate, GroupEstimate, PairTest, from_json
from recbole_llmtrsr.evaluation.comparison.statistics import Estimate
from recbole_llmtrsr.report.page import main_metric, page, write_report

NASTY = """x"'><script>alert(1)</script><b onload=y>&amp;{{ 7 * 7 }}"""


def test_the_verdict_says_who_leads_by_how_much_and_whether_that_is_certain(comparison):
    text = Page(page(comparison)).text
    assert "LLMTRSR@ recurrent leads with mrr@2 = 0.6000 [.550, .650]" in text
    assert "That is 0.0200 [-.010, .050] above Pop, the next." in text
    assert "A paired test does not tell them apart (Holm-corrected p = 0.0800)" in text
    assert "Random ranking of the same candidates would reach 0.5000." in text
    certain = replace(comparison, tests=(replace(comparison.tests[0], p_holm=0.049),))
    assert "A paired test tells them apart (Holm-corrected p = 0.0490)." in Page(page(certain)).text


def test_the_candidates_and_seeds_are_said_at_the_top(comparison):
    top = Page(page(comparison)).text.split("Results")[0]
    for chip in ("1,200 test targets", "3 candidates each", "mode uni2", "candidate set abcdef012345"):
        assert chip in top
    assert "seeds 1, 2 of LLMTRSR@recurrent, Pop; 0 of elsewhere" in top
    several = {**comparison.rows[0].results[0], "candidates": {"test": {"n_per_history": [2, 30.5, 299], "hash": "ab"}}}
    rows = (replace(comparison.rows[0], results=(several,)), *comparison.rows[1:])
    assert "2 to 299 candidates each" in Page(page(replace(comparison, rows=rows))).text


def test_every_part_of_the_comparison_is_on_the_page(comparison):
    text = Page(page(comparison)).text
    for told in (
        *("Results", "Which differences are real", "Quality against time and cost", "For whom it works"),
        *("Does the model read its prompt?", "How it was made"),
        "0.7500 ★ [.700, .800] ±.010",
        "Pop +0.0200 [-.010, .050] ±.003 0.0800 not told apart 0.0400",
        "no recent items changes 1,199 prompts -0.2000 ↓ [-.250, -.150] ±.010",
        "p corrected by Holm's method. Holm's correction is over the pairs of one metric: mrr@2, which chose",
        "intervals over users. Intervals and p values are over users, given the trained weights; values are",
        "Groups of fewer than 20 users have no interval.",
        "shuffled history -0.0100 [-.030, .010] ±.010",
        "Left out, no summary: no history has a summary.",
        "python run.py --model=LLMTRSR@recurrent,Pop --seeds=1,2",
        "epochs 4 1 -",
        "summary recurrent (LLMTRSR@recurrent)",
        "Not told: elsewhere.",
        "test candidates, hash abcdef0123456789",
        # and, for readers who do not know them, what is compared
        "the target, from negatives. Negatives of a target: 2 items drawn uniformly. Where most items are hardly ever",
        "How to read this page A history is what a user did before the target",
        "LLMTRSR a language model reads a summary of the user's history, the recent items and one candidate",
        "name@variant a model with options of its own, which are listed under Options.",
        "random ranking all orders of the candidates alike: what is no better has learnt nothing.",
        "recall@K share of a history's targets that are among the best K",
        "mrr@K 1 / rank of the first target, 0 where none is among the best K.",
        "The opposite does not follow: a prompt unlike all that the model was trained on costs something by being",
        "what each one changes no recent items 'none' in place of the recent items; the summary stays.",
    ):
        assert told in text
    for absent in ("TALLRec", "ndcg", "no summary 'none'", "other candidates"):
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
    assert len(ids) == len(set(ids)) == 18


def test_the_page_needs_nothing_else(comparison):
    made = page(comparison)
    read = Page(made)
    assert {"script", "link", "img"} & set(read.tags) == set()
    names = {name for _, name, _ in read.attributes}
    assert not names & {"src", "href", "srcset", "action", "style"}
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
    assert "Which differences are real" not in text


def test_a_comparison_without_metrics_is_refused(comparison):
    rows = tuple(replace(row, metrics={}) for row in comparison.rows)
    with pytest.raises(UserError, match=r"report: no run has test metrics: give the split a test part"):
        page(replace(comparison, rows=rows))


def test_the_metric_that_chose_the_epochs_leads_the_page(comparison):
    assert main_metric(comparison, ["recall@1", "mrr@2"]) == "mrr@2"
    assert main_metric(comparison, ["recall@1", "recall@2"]) == "recall@1"


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
    assert 50_000 < len(page(replace(comparison, rows=rows, tests=tests)).encode()) < 300_000


def test_the_report_is_written_into_the_folder(comparison, tmp_path):
    path = write_report(tmp_path / "new", comparison)
    assert path == tmp_path / "new" / "report.html"
    assert path.read_text(encoding="utf-8") == page(comparison)


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(comparison, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"report: .*report[.]html cannot be written .*choose a writable folder"):
        write_report(tmp_path / "file", comparison)
