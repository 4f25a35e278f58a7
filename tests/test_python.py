"""The package from Python and in notebooks: public names, DataFrames in and out, and no option from sys.argv."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import toy

import recbole_llmtrsr
from recbole_llmtrsr import Dataset, Recommender, UserError, compare, objective_function, run_recbole_llmtrsr
from recbole_llmtrsr.evaluation.per_history import read_per_history

OPTIONS = {name: value for name, value in toy.TINY.items() if name != "data_path"}
EVENTS = [line.split("\t") for line in toy.toy_events(*range(4, 12))]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset() -> Dataset:
    """The toy data set, made of two frames."""
    clicks = pd.DataFrame(EVENTS, columns=["user_id", "item_id", "timestamp"])
    products = pd.DataFrame([line.split("\t") for line in toy.TITLES], columns=["item_id", "title"])
    return Dataset.from_frames(clicks, products, "shop", text="title", domain="products")


def test_every_public_name_is_shown_and_imported():
    assert set(recbole_llmtrsr.__all__) <= set(dir(recbole_llmtrsr))
    assert all(getattr(recbole_llmtrsr, name) is not None for name in recbole_llmtrsr.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Recomender'"):
        recbole_llmtrsr.Recomender  # noqa: B018


def test_the_package_is_imported_without_torch():
    code = "import sys, recbole_llmtrsr; dir(recbole_llmtrsr); print('torch' in sys.modules, 'recbole' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_no_option_is_read_from_the_command_line_of_the_process(dataset, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ipykernel_launcher.py", "-f", "kernel.json", "--epochs=99", "--epochs=7"])
    found = run_recbole_llmtrsr("Pop", dataset, config_dict=OPTIONS)
    result = json.loads((found["folder"] / "result.json").read_text())
    assert result["options"]["epochs"] == 1
    assert result["command"] == (
        "recbole_llmtrsr.run_recbole_llmtrsr(model='Pop', dataset='shop',"
        f" config_file_list=['dataset/shop/properties.yaml'], config_dict={OPTIONS!r})"
    )


def test_a_data_set_of_frames_goes_in_the_place_of_a_name(dataset):
    results, folder = compare(["LLMTRSR"], dataset, config_dict=OPTIONS)
    options = results[0]["options"]
    assert (results[0]["dataset"], options["domain"], options["item_text_fields"]) == ("shop", "products", ["title"])
    assert results[0]["n_items"] == toy.N_ITEMS
    ranking = Recommender.load(folder).rank("u3", ["i1", "i2"])
    assert {one.text for one in ranking.items} == {"title: The title of 1", "title: The title of 2"}
    assert ranking.to_pandas()["item"].tolist() == [one.item for one in ranking.items]
    assert repr(ranking).splitlines()[0] == "2 items ranked for a history of 6"
    assert repr(ranking).splitlines()[1].split()[:2] == ["1", ranking.items[0].item]
    assert "<td>title: The title of 1</td>" in ranking._repr_html_()
    explanation = Recommender.load(folder).explain("u3", ["i1", "i2"])
    assert explanation._repr_html_().startswith("<iframe srcdoc=")
    assert "The title of 1" in str(explanation)
    given = {**OPTIONS, "model": "Pop"}
    assert objective_function(given, [str(dataset.properties)])["test_result"] is not None
    with pytest.raises(UserError, match=r"option 'epocs' does not exist; did you mean 'epochs'\?"):
        compare(["Pop"], dataset, config_dict={**OPTIONS, "epocs": 3})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["Pop"], pd.DataFrame()), "dataset must be a name, such as 'ml-100k', got a DataFrame; .*from_frames"),
        (("Pop", "shop"), r"models must be a list of names, such as \['Pop'\], got the text 'Pop'"),
        ((["Pop"], None), "no dataset is named"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        compare(*arguments)


def test_a_comparison_is_a_table_and_unpacks(dataset):
    compared = compare(["SASRec", "Pop"], dataset, config_dict={**OPTIONS, "seeds": [1, 2], "report": True})
    results, folder = compared
    assert (results, folder) == (compared.results, compared.folder) == tuple(compared)
    assert list(compared.table.index) == ["SASRec", "Pop", "random ranking"]
    assert compared.table.columns[0] == "mrr@10"  # the metric that chose the epochs
    means = [result["test_result"]["recall@5"] for result in results if result["label"] == "Pop"]
    assert compared.table.loc["Pop", "recall@5"] == pytest.approx(sum(means) / 2, abs=1e-4)
    long = compared.to_pandas()
    assert list(long.columns) == ["model", "metric", "mean", "low", "high", "spread"]
    assert len(long) == 2 * len(compared.table.columns)
    rows = compared.per_history()
    assert list(rows.columns[:3]) == ["model", "seed", "user_id"]
    of_one = rows[(rows.model == "Pop") & (rows.seed == 2)].drop(columns=["model", "seed"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(of_one, read_per_history(folder / "Pop" / "seed-2" / "per_history.csv"))
    assert compared.report == folder / "report.html"
    assert "random ranking" in repr(compared)
    assert repr(compared).endswith(f"results: {folder}")
    assert compared._repr_html_().startswith("<table")
    assert compared.plot().startswith("<svg")
    assert "mrr@10 by history length" in compared.plot("mrr@10 by history length")
    assert compared.plot()._repr_html_().startswith("<img ")
    with pytest.raises(UserError, match=r"unknown plot 'hit by K': available plots are recall by K, "):
        compared.plot("hit by K")


def test_a_dry_run_has_costs_and_no_table(dataset):
    compared = compare(["LLMTRSR"], dataset, config_dict={**OPTIONS, "dry_run": True})
    assert compared.report is None
    assert compared.comparisons == []
    assert list(compared.table.index) == ["LLMTRSR"]
    assert len(compared.to_pandas()) == len(compared.per_history()) == 0
    assert repr(compared).startswith("LLMTRSR\nhistories")
    assert compared._repr_html_() is None
    assert run_recbole_llmtrsr("LLMTRSR", dataset, config_dict={**OPTIONS, "dry_run": True})["folder"] is None
