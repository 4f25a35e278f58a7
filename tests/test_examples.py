"""The notebook holds the cells of its script, and runs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def notebook(monkeypatch):
    """The module that makes the notebook."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("notebook")


def cells(made):
    return [(cell.cell_type, cell.source) for cell in made.cells]


def test_the_notebook_is_that_of_its_script_and_shows_what_it_shows(notebook):
    kept = nbformat.read(notebook.NOTEBOOK, as_version=4)
    assert cells(kept) == cells(notebook.made(notebook.SCRIPT.read_text(encoding="utf-8")))
    text = notebook.NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert not re.findall(r"(?<![\w.<:/])/[A-Za-z]+/[\w.-]+/", text)  # folders of a machine
    assert all(cell.outputs for cell in kept.cells if cell.cell_type == "code")


@pytest.mark.slow
def test_the_notebook_runs_and_its_language_model_leads(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    made = notebook.executed(notebook.made(notebook.SCRIPT.read_text(encoding="utf-8")), tmp_path)
    shown = "".join(str(output) for cell in made.cells for output in cell.get("outputs", ()))
    assert all(part in shown for part in ("<table", "<img ", "<iframe "))
    (table,) = tmp_path.glob("results/runs/*/comparison.csv")
    lines = [line.split(",") for line in table.read_text().splitlines()]
    found = {line[0]: float(line[5]) for line in lines[1:] if line[1:5] == ["all", "", "", "ndcg@10"]}
    assert found["LLMTRSR"] > max(found["SASRec"], found["Pop"])
