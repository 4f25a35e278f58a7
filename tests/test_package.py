"""What the package says of itself agrees with itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

import recbole_llmtrsr
from recbole_llmtrsr.commands.dispatch import main

ROOT = Path(__file__).parents[1]
if not (ROOT / "setup.py").is_file():
    pytest.skip("no checkout", allow_module_level=True)


def arguments_of_setup() -> dict[str, ast.expr]:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def test_the_console_command_is_the_dispatcher() -> None:
    (script,) = ast.literal_eval(arguments_of_setup()["entry_points"])["console_scripts"]
    assert script == f"recbole-llmtrsr = {main.__module__}:{main.__name__}"


def test_the_citation_is_of_this_version_and_of_the_paper_that_the_readme_cites() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == recbole_llmtrsr.__version__
    paper, readme = cited["preferred-citation"], (ROOT / "README.md").read_text(encoding="utf-8")
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert f"{{{authors}}}" in readme
    assert f"{{{paper['title']}}}" in readme
    assert f"{{{paper['start']}--{paper['end']}}}" in readme


def test_the_image_and_the_source_archive_get_files_that_exist() -> None:
    image = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    archive = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").split("\n")
    named = [line.removeprefix("!") for line in image if line.startswith("!")]
    named += [name for line in archive if line.startswith("include ") for name in line.split()[1:]]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.name)
def test_forms_and_workflows_are_yaml_with_a_name(file: Path) -> None:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert content["name"]
    assert content.get("jobs") or [part["id"] for part in content["body"]]
