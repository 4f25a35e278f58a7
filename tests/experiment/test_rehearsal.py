"""Models of RecBole in small, before the first one trains."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr.config.recbole_faults import setting_up
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment import rehearsal
from recbole_llmtrsr.experiment.pipeline import checked_config
from recbole_llmtrsr.experiment.rehearsal import rehearse
from recbole_llmtrsr.quick_start import compare


@pytest.fixture
def options(tmp_path, atomic_folder, monkeypatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {"data_path": str(atomic_folder), "eval_args": {"mode": "uni2"}, "use_gpu": False, "show_progress": False}


@pytest.mark.parametrize(
    ("model", "faulty", "message"),
    [
        ("SASRec", {"n_heads": 7}, r"the model of SASRec .* not a multiple of .* options that were set: .*n_heads: 7"),
        ("SASRec", {"hidden_act": "gelo"}, r"KeyError: 'gelo'; .* hidden_act: 'gelo'"),
        ("GRU4Rec", {"dropout_prob": 3}, "dropout probability has to be between 0 and 1, but got 3"),
        ("NeuMF", {"mlp_hidden_size": 64}, "the model of NeuMF .* mlp_hidden_size: 64"),
        ("BPR", {"train_neg_sample_args": None}, "the training of BPR .* train_neg_sample_args: None"),
        ("SASRecCPR", {"n_facet_all": 4}, "the model of SASRecCPR .* AssertionError: self.n_facet;"),
        ("FM", {}, "FM learns from labels, but there are neither a column 'label'"),
        ("Pop", {"text_init": "tfidf"}, "text_init: Pop has no item_embedding"),
    ],
)
def test_what_a_model_does_not_accept_is_told_before_another_trains(options, model, faulty, message):
    own = {f"{model}.{name}": value for name, value in faulty.items()}
    with pytest.raises(UserError, match=message):
        compare(["ItemKNN", model], "tiny", config_dict={**options, **own, "result_dir": "out"})
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("model", "option"),
    [
        *(("LLMTRSR", "backbone"), ("LLMTRSR", "summarizer"), ("HLLM", "backbone")),
        *(("LLMSeqSim", "text_encoder"), ("SASRec", "text_init")),
    ],
)
def test_a_model_of_language_that_is_not_there_is_told_before_another_trains(options, model, option):
    with pytest.raises(UserError, match=f"{option} '/nowhere' is not a folder"):
        compare(["ItemKNN", model], "tiny", config_dict={**options, f"{model}.{option}": "/nowhere"})
    assert not [path for path in Path("results").rglob("*") if path.is_file()]


def test_users_who_chose_all_items_are_told_with_the_filter(options, atomic_folder):
    rows = [f"{user}\ti{item}\t{item}" for user in "ab" for item in range(1, 5)]
    (atomic_folder / "tiny" / "tiny.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n"
    )
    given = {**options, "candidate_exclusion": "target", "catalogue": "interactions"}
    with pytest.raises(UserError, match="Some users have interacted with all items.*user_inter_num_interval"):
        rehearse([checked_config("BPR", "tiny", [], given)])


def test_of_many_events_it_reads_the_first_and_leaves_nothing_behind(options, monkeypatch, atomic_folder):
    monkeypatch.setattr(rehearsal, "_N_EVENTS", 20)
    seen = []
    perform = rehearsal._perform
    monkeypatch.setattr(rehearsal, "_perform", lambda config: (seen.append(config), perform(config)))
    config = checked_config("GRU4Rec", "tiny", [], {**options, "user_inter_num_interval": "[5,inf)"})
    before = copy.deepcopy(config.final_config_dict)
    rehearse([config, config])
    (small,) = seen
    assert small["data_path"] != config["data_path"]
    assert not Path(small["data_path"]).exists()
    assert config.final_config_dict == before
    assert [path.name for path in Path().iterdir()] == ["data"]


def test_first_events_are_shared_out_among_their_first_users(options, monkeypatch):
    monkeypatch.setattr(rehearsal, "_N_EVENTS", 8)  # lines, two of them blank
    monkeypatch.setattr(rehearsal, "_N_USERS", 2)
    path = Path(options["data_path"], "tiny", "tiny.inter")
    path.write_text(path.read_text().replace("\n", "\n\n", 2))
    assert rehearsal._first_events(checked_config("GRU4Rec", "tiny", [], options), path) == [
        "user_id:token\titem_id:token\ttimestamp:float",
        "unix\ti1\t1600000006",
        "twice\ti2\t1600000000",
        "unix\ti3\t20",
        "twice\ti2\t10",
        "unix\ti1\t1",
        "twice\ti2\t2",
    ]


def test_what_fails_in_small_is_tried_on_the_whole_data(options, monkeypatch):
    tried = []

    def perform(config: Any) -> None:
        tried.append(config["data_path"])
        if len(tried) == 1:
            raise ValueError("too few events")

    monkeypatch.setattr(rehearsal, "_N_EVENTS", 5)
    monkeypatch.setattr(rehearsal, "_perform", perform)
    config = checked_config("GRU4Rec", "tiny", [], options)
    rehearse([config])
    assert tried[1:] == [config["data_path"]]


@pytest.mark.parametrize("fault", [KeyError("ours"), OSError(28, "No space left on device")])
def test_faults_of_ours_and_of_the_disk_keep_their_traceback(options, fault):
    config = checked_config("GRU4Rec", "tiny", [], options)
    with pytest.raises(type(fault)), setting_up(config, "the model"):
        raise fault


def test_who_debugs_sees_the_traceback_of_recbole(options):
    config = checked_config("SASRec", "tiny", [], {**options, "n_heads": 7, "state": "DEBUG"})
    with pytest.raises(ValueError, match="not a multiple") as fault:
        rehearse([config])
    assert not isinstance(fault.value, UserError)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_negatives_that_the_model_chooses_are_rehearsed_with_the_model(options, distribution):
    drawn = {"distribution": distribution, "sample_num": 1, "dynamic": True, "candidate_num": 2}
    rehearse([checked_config("BPR", "tiny", [], {**options, "train_neg_sample_args": drawn})])


def test_data_that_are_too_large_are_not_rehearsed_as_a_whole(options, monkeypatch):
    tried = []

    def perform(config: Any) -> None:
        tried.append(config["data_path"])
        raise ValueError("too few events")

    monkeypatch.setattr(rehearsal, "_N_EVENTS", 5)
    monkeypatch.setattr(rehearsal, "_LARGEST", 100)
    monkeypatch.setattr(rehearsal, "_perform", perform)
    rehearse([checked_config("GRU4Rec", "tiny", [], options)])
    assert len(tried) == 1
