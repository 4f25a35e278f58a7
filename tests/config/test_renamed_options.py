from __future__ import annotations

import logging

import pytest

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.renamed_options import RENAMED
from recbole_llmtrsr.config.settings import OPTION_NAMES
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_model


def test_every_new_name_is_an_option_and_no_earlier_one_is():
    assert set(RENAMED.values()) <= set(OPTION_NAMES)
    assert not RENAMED.keys() & set(OPTION_NAMES)


def test_earlier_names_in_a_file_a_dictionary_and_a_flag_set_today_s_options(tmp_path, monkeypatch, caplog):
    file = tmp_path / "run.yaml"
    file.write_text("rank_history: no\n")
    monkeypatch.setattr("sys.argv", ["test", "--LLMTRSR.probe=True"])
    with caplog.at_level(logging.WARNING):
        config = Config(get_model("LLMTRSR"), "ml-100k", [file], {"keep_checkpoints": 5})
    evaluation, resume = config.settings.evaluation, config.settings.resume
    assert (evaluation.exclude_seen, evaluation.ablations, resume.keep_states) == ("yes", True, 5)
    assert [message for message in caplog.messages if "is now called" in message] == [
        "keep_checkpoints is now called keep_states: write keep_states: 5; the next version refuses the old name",
        "rank_history is now called exclude_seen: write exclude_seen: yes; the next version refuses the old name",
        "LLMTRSR.probe is now called LLMTRSR.ablations: write LLMTRSR.ablations: True; the next version refuses the old"
        " name",
    ]


def test_one_option_under_both_names_is_refused(monkeypatch):
    monkeypatch.setattr("sys.argv", ["test"])
    with pytest.raises(UserError, match="probe is the earlier name of ablations, and both are given: keep ablations"):
        Config(get_model("LLMTRSR"), "ml-100k", [], {"probe": True, "ablations": True})
