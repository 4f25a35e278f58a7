"""Make first_steps.ipynb of first_steps.py, and run it: python examples/notebook.py.

The script holds the cells in the percent format: "# %%" begins a cell of code, "# %% [markdown]" one of text.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SCRIPT = Path(__file__).with_name("first_steps.py")
NOTEBOOK = SCRIPT.with_suffix(".ipynb")


def made(script: str) -> nbformat.NotebookNode:
    """The notebook of a script, without outputs."""
    cells = []
    for number, part in enumerate(script.split("# %%")[1:]):
        kind, _, body = part.partition("\n")
        if "[markdown]" in kind:
            lines = (line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            cell = nbformat.v4.new_markdown_cell("\n".join(lines))
        else:
            cell = nbformat.v4.new_code_cell(body.strip())
        cell["id"] = f"cell-{number}"
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, but for logs; what it writes lies in the folder.

    Raises:
        CellExecutionError: a cell ends with an error.
    """
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(made(SCRIPT.read_text(encoding="utf-8")), Path(folder)), NOTEBOOK)
