from __future__ import annotations

import logging

import pytest

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.renamed_options import RENAMED, accepted_options
from recbole_llmtrsr.config.settings import OPTION_NAMES, unknown_options
from recbole_llmtrsr.config.sources import Command
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_model


def test_every_new_name_is_an_option_and_no_earlier_one_is():
    assert set(RENAMED.values()) <= set(OPTION_NAMES)
    assert not RENAMED.keys() & set(OPTION_NAMES)


def test_earlier_names_in_a_file_a_dictionary_and_a_flag_set_today_s_options(tmp_path, caplog):
    file = tmp_path / "run.yaml"
    file.write_text("rank_history: no\n")
    with caplog.at_level(logging.WARNING):
        config = Config(
            get_model("LLMTRSR"),
            "ml-100k",
            [file],
            {"keep_checkpoints": 5},
            command=Command(flags={"LLMTRSR.probe": "True"}),
        )
    evaluation, resume = config.settings.evaluation, config.settings.resume
    assert (evaluation.exclude_seen, evaluation.ablations, resume.keep_states) == ("yes", True, 5)
    assert [message for message in caplog.messages if "is now called" in message] == [
        "keep_checkpoints is now called keep_states: write keep_states: 5; the next version refuses the old name",
        "rank_history is now called exclude_seen: write exclude_seen: yes; the next version refuses the old name",
        "LLMTRSR.probe is now called LLMTRSR.ablations: write LLMTRSR.ablations: True; the next version refuses the old"
        " name",
    ]


@pytest.mark.parametrize("value", ["Yes", "none", 1, None])
def test_a_value_whose_opposite_is_unknown_is_refused_under_the_name_it_was_given(value):
    with pytest.raises(UserError, match="rank_history must be auto, yes or no.*which reverses yes and no"):
        accepted_options({"rank_history": value})


@pytest.mark.parametrize(
    ("value", "now"), [("auto", "auto"), ("yes", "no"), ("no", "yes"), (True, "no"), (False, "yes")]
)
def test_the_option_that_is_now_its_opposite_is_turned(value, now):
    assert accepted_options({"SASRec.rank_history": value}) == {"SASRec.exclude_seen": now}


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("retrieved_negative", "hard_negative_ratio' (formerly retrieved_negatives)"),
        ("rank_histroy", "exclude_seen' (formerly rank_history)"),
        ("probes", "ablations' (formerly probe)"),
        ("keep_checkpoint", "keep_states' (formerly keep_checkpoints)"),
    ],
)
def test_an_earlier_name_that_is_misspelt_is_answered_with_todays(misspelt, meant):
    (fault,), strangers = unknown_options({misspelt: 1}, set())
    assert (strangers, f"did you mean '{meant}" in fault) == ([], True)


def test_one_option_under_both_names_is_refused():
    with pytest.raises(UserError, match="probe is the earlier name of ablations, and both are given: keep ablations"):
        Config(get_model("LLMTRSR"), "ml-100k", [], {"probe": True, "ablations": True})
