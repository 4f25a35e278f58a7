"""The files that a page holds: plots as SVG, tables as CSV."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree

import pandas as pd
import pytest
from html_page import Page

from recbole_llmtrsr.report.downloads import tables
from recbole_llmtrsr.report.further import Further
from recbole_llmtrsr.report.page import page

SVG = "{http://www.w3.org/2000/svg}"


def files(made: str) -> dict[str, str]:
    """Content of all downloads of a page by file name."""
    attributes = Page(made).attributes
    names = [value for _, name, value in attributes if name == "download"]
    links = [value for _, name, value in attributes if name == "href" and value.startswith("data:")]
    contents = [base64.b64decode(link.partition("base64,")[2]).decode() for link in links]
    return dict(zip(names, contents, strict=True))


def test_every_plot_and_every_table_of_numbers_can_be_saved(comparison):
    assert list(files(page(comparison))) == [
        "test-metrics.csv",
        "recall-by-K.svg",
        "all-paired-tests.csv",
        "mrr@2-and-training-time.svg",
        "mrr@2-and-cost-of-ranking.svg",
        "validation-mrr@2-while-training-first-seed.svg",
        "costs.csv",
        "mrr@2-by-history-length.svg",
        "mrr@2-by-target-popularity.svg",
        "by-history-length.csv",
        "by-target-popularity.csv",
        "by-prompt.csv",
        "ablations.csv",
    ]


def test_a_csv_holds_the_numbers_of_its_table(comparison):
    found = files(page(comparison))
    metrics = found["test-metrics.csv"].splitlines()
    assert metrics[0] == "label,seed,metric,mean,low,high,spread,n"
    assert "LLMTRSR@recurrent,all,recall@2,0.75,0.7,0.8,0.01,1200" in metrics
    assert "random ranking,all,mrr@2,0.5,,,,1200" in metrics
    tests = pd.read_csv(StringIO(found["all-paired-tests.csv"]))
    assert tests.loc[0, ["label", "group", "mean", "p", "p_holm"]].tolist() == [
        *("Pop", "LLMTRSR@recurrent", -0.02, 0.04, 0.08)
    ]
    ablations = pd.read_csv(StringIO(found["ablations.csv"]))
    assert ablations["group"].tolist() == ["no recent items", "shuffled history"]
    assert ablations["mean"].tolist() == [-0.2, -0.01]
    cold = pd.read_csv(StringIO(found["by-target-popularity.csv"])).query("group == 'cold' and metric == 'mrr@2'")
    assert dict(zip(cold["label"], cold["mean"])) == {"LLMTRSR@recurrent": 0.5, "Pop": 0.05, "random ranking": 0.25}
    assert "Pop,2,cost,training (s),0.0\n" in found["costs.csv"]


def test_results_of_all_candidate_sets_share_a_file(comparison):
    results = tuple({**one, "candidates": {"test": {"mode": "pop20"}}} for one in comparison.rows[0].results)
    other = replace(comparison, rows=(replace(comparison.rows[0], results=results),), random={"mrr@2": 0.125})
    found = pd.read_csv(StringIO(tables(comparison, [Further("pop20", "", other)])["candidates"]))
    chance = found.query("label == 'random ranking' and metric == 'mrr@2'")
    assert dict(zip(chance["candidates"], chance["mean"])) == {"uni2": 0.5, "pop20": 0.125}
    assert "candidates" not in tables(comparison)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", '</script><a href="x">&amp;'])
def test_names_of_users_are_neither_formulas_nor_markup_in_a_file(comparison, renamed, name):
    found = files(page(renamed(comparison, name)))
    labels = pd.read_csv(StringIO(found["test-metrics.csv"]), dtype=str)["label"].tolist()
    assert labels[0] == (name if name.startswith("<") else f"'{name}")
    texts = [text.text for text in ElementTree.fromstring(found["recall-by-K.svg"]).iter(f"{SVG}text")]
    assert name in texts


def test_a_saved_plot_has_title_legend_and_colours(comparison):
    saved = files(page(comparison))["recall-by-K.svg"]
    picture = ElementTree.fromstring(saved)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts[0] == "recall by K"
    assert texts[-4:] == ["LLMTRSR@recurrent", "Pop", "elsewhere", "random ranking"]
    assert "var(" not in saved  # other programs may not resolve variables
    left, top, width, height = map(float, picture.get("viewBox").split())
    assert (left, top, width) == (0, -28, 360)
    assert top + height >= 300 + 16 * 4  # the plot, and a line for each series
