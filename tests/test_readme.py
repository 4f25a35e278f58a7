"""The README's quick start, and the pages on presets and on recommending."""

import re
from pathlib import Path

import pytest

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import preset_files, properties_dir
from recbole_llmtrsr.registry import get_model

ROOT = Path(__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_quick_start_has_two_commands_of_one_line():
    section = text("README.md").split("## Quick start")[1].split("\n## ")[0]
    commands = [block for block in re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)]
    assert [command.count("\n") for command in commands] == [1, 1]
    assert all(command.startswith("python3 -m venv .venv && .venv/bin/pip install ") for command in commands)


@pytest.mark.parametrize("name", [path.stem for path in (properties_dir() / "presets").glob("*.yaml")])
def test_every_preset_is_documented_and_all_its_options_exist(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert f"| `{name}` |" in text("docs/guides/pretrained.md")
    config = Config(get_model("LLMTRSR"), "ml-100k", preset_files(name), {})
    assert config.settings.backbone.backbone != "builtin"
    assert config.settings.summary.max_blocks <= 5


def test_the_texts_given_by_hand_name_columns_that_the_run_reads(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    named = set(re.findall(r'[{ ]"(\w+)": "[A-Z]', text("docs/guides/recommend.md")))
    assert (
        named == {"movie_title", "class"} <= set(Config(get_model("LLMTRSR"), "ml-100k").settings.data.item_text_fields)
    )


def test_every_flag_that_the_page_names_is_one_of_the_server():
    from recbole_llmtrsr.serve.__main__ import _parser

    section = text("docs/guides/recommend.md").split("\n## Over HTTP")[1].split("\n## ")[0]
    flags = set(re.findall(r"--[a-z_]+", section)) - {"--help"}
    assert {"--run", "--host"} <= flags <= set(_parser()._option_string_actions)
