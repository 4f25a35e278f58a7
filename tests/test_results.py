"""The commands printed in results/ are what the options accept, and train at the rates that the pages tell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from recbole_llmtrsr.config import sources
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command
from recbole_llmtrsr.registry import get_model

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted((REPOSITORY / "results").glob("*.md"))
RUN = "python run_recbole_llmtrsr.py "
COMMANDS = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if line.startswith(RUN)]
LANGUAGE_MODELS = ("LLMTRSR", "LLMTRSR@recurrent", "TALLRec")
BASELINES = ("SASRec", "GRU4Rec", "NARM")  # Pop learns at no rate


def configs(command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Config]:
    """The options of every model of a command; <a folder> is a word."""
    monkeypatch.chdir(REPOSITORY)
    flags = shlex.split(re.sub(r"<[^>]*>", "a-folder", command.removeprefix(RUN)))
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    line = Command(flags=sources.flags(flags))
    files = given.get("config_files", "").split()
    return {
        label: Config(get_model(label.partition("@")[0]), given["dataset"], files, None, label, line)
        for label in given["model"].split(",")
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_accepted_and_beats_no_models_own_option(command, monkeypatch, caplog):
    assert configs(command, monkeypatch)
    assert "no effect" not in caplog.text
    assert "came before it" not in caplog.text


def test_the_comparison_on_impressions_trains_at_the_rates_it_tells(monkeypatch):
    command = next(c for c in COMMANDS if "results/settings/mind.yaml" in c and "NARM" in c)
    made = configs(command, monkeypatch)
    assert {label: made[label]["learning_rate"] for label in LANGUAGE_MODELS} == dict.fromkeys(LANGUAGE_MODELS, 0.0001)
    assert {label: made[label]["learning_rate"] for label in BASELINES} == dict.fromkeys(BASELINES, 0.003)
