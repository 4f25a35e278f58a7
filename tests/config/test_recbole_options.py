"""Options of RecBole's that it would refuse late, replace by a default, or leave without effect."""

from __future__ import annotations

from typing import Any

import pytest

from recbole_llmtrsr.config.checks import unread_options
from recbole_llmtrsr.config.recbole_options import INTERVAL_WORDS, is_interval
from recbole_llmtrsr.config.sources import Command, model_options
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.pipeline import checked_config

INTERVAL = rf"must be {INTERVAL_WORDS}, or ~, got".replace("[", r"\[").replace("(", r"\(").replace(")", r"\)")
REFUSED = [
    ("Pop", {"user_inter_num_interval": "[30,inf"}, f"user_inter_num_interval {INTERVAL}"),
    ("Pop", {"user_inter_num_interval": 30}, f"user_inter_num_interval {INTERVAL}"),
    ("Pop", {"item_inter_num_interval": {"min": 30}}, f"item_inter_num_interval {INTERVAL}"),
    ("Pop", {"item_inter_num_interval": "[5;inf)"}, f"item_inter_num_interval {INTERVAL}"),
    ("Pop", {"user_inter_num_interval": "[9,3]"}, f"user_inter_num_interval {INTERVAL}"),
    ("Pop", {"val_interval": {"timestamp": 3}}, "val_interval must be a mapping of columns to an interval"),
    ("Pop", {"val_interval": {"timestamp": ">=3"}}, "val_interval must be a mapping of columns to an interval"),
    ("LLMTRSR", {"val_interval": [3, 5]}, r"val_interval must be a mapping .* got \[3, 5\]"),
    ("GRU4Rec", {"clip_grad_norm": 1.0}, r"clip_grad_norm must be .* such as \{max_norm: 1.0\}"),
    ("GRU4Rec", {"clip_grad_norm": {"maxnorm": 1.0}}, "clip_grad_norm must be"),
    ("SASRec", {"loss_type": "BCE"}, "loss_type must be one of CE, BPR, got 'BCE'"),
    ("GRU4Rec", {"loss_type": None}, "loss_type must be one of CE, BPR, got None"),
    ("LLMTRSR", {"learning_rate": "abc"}, "learning_rate must be a number >= 0, got 'abc'"),
    ("BPR", {"learning_rate": float("nan")}, "learning_rate must be a number >= 0, got nan"),
    ("LLMTRSR", {"seed": "abc"}, "seed must be a whole number from 0 to 4294967295, got 'abc'"),
    ("LLMTRSR", {"load_col": "item"}, "load_col must be a mapping of files to columns"),
    ("LLMTRSR", {"eval_args": {"split": {"LS": 2}}}, "eval_args split LS must be one of valid_and_test"),
    ("LLMTRSR", {"eval_args": {"split": {"RS": [0.9, 0.1]}}}, "eval_args split RS must be three numbers"),
    ("LLMTRSR", {"eval_args": {"split": {"TS": [0, 0.5, 0.5]}}}, "eval_args split TS must be three numbers"),
    ("LLMTRSR", {"eval_args": {"order": "XX"}}, r"eval_args order must be TO \(by time\) or RO \(random\), got 'XX'"),
    ("Pop", {"eval_args": {"group_by": "item"}}, "eval_args group_by must be user or none, got 'item'"),
    ("SASRec", {"transform": "crop_itemseq"}, "transform: crop_itemseq needs eta"),
    ("SASRec", {"transform": "crop"}, "transform must be one of mask_itemseq"),
    ("SASRec", {"hidden_size": "abc"}, "hidden_size must be a whole number, like its default 64, got 'abc'"),
    ("BPR", {"embedding_size": 0}, "embedding_size must be >= 1, got 0"),
    ("SpectralCF", {"reg_weight": "abc"}, "reg_weight must be a number, like its default 0.001, got 'abc'"),
    ("GRU4Rec", {"learner": "adamm"}, "learner must be one of adam, adamw"),
    ("GRU4Rec", {"rm_dup_inter": False}, "rm_dup_inter must be one of first, last, or ~, got False"),
    ("GRU4Rec", {"train_batch_size": 0}, "train_batch_size must be a whole number >= 1, got 0"),
    ("GRU4Rec", {"epochs": 2.5}, "epochs must be a whole number >= 1, got 2.5"),
    ("GRU4Rec", {"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
    ("GRU4Rec", {"state": "VERBOSE"}, "state must be one of debug, info"),
    ("GRU4Rec", {"topk": [0]}, "topk must be a whole number >= 1"),
    ("GRU4Rec", {"metrics": [5]}, "metrics must be a list of metrics"),
    ("GRU4Rec", {"show_progress": "never"}, "show_progress must be True or False, got 'never'"),
    ("GRU4Rec", {"MAX_ITEM_LIST_LENGTH": 0}, "MAX_ITEM_LIST_LENGTH must be a whole number >= 1, got 0"),
    (
        "BPR",
        {"train_neg_sample_args": {"sample_num": 0, "distribution": "uniform"}},
        "train_neg_sample_args sample_num",
    ),
    ("GRU4Rec", {"local_rank": 0}, "the launcher sets local_rank"),
    # Columns that options name
    ("FDSA", {}, "selected_features names the column 'class', which is not loaded: no file has it"),
    ("Pop", {"load_col": {"inter": ["user_id", "item_id", "timestmp"]}}, "did you mean 'timestamp'"),
    ("Pop", {"load_col": {"user": ["user_id"]}}, r"load_col names the file tiny\.user, which is not in"),
    ("Pop", {"unload_col": {"inter": ["tme"]}}, r"unload_col names the column 'tme', which tiny\.inter does not have"),
    ("Pop", {"val_interval": {"rating": "[3,inf)"}}, "val_interval names the column 'rating', which is not loaded"),
    ("Pop", {"val_interval": {"item_id": "[3,inf)"}}, "'item_id' holds tokens, so it takes a list of them"),
    ("Pop", {"val_interval": {"timestamp": [3]}}, "'timestamp' holds numbers, so it takes an interval"),
    ("Pop", {"threshold": {"item_id": 4}}, "threshold names the column 'item_id' of type token: it must be float"),
    ("Pop", {"seq_len": {"class": 5}}, "seq_len names the column 'class', which no file has"),
    ("Pop", {"normalize_field": ["price"]}, r"list it in load_col: \{item: \[\.\.\., price\]\}"),
]


@pytest.fixture
def check(tmp_path, atomic_folder, monkeypatch):
    """Checks a model's options over the data set 'tiny', as every run does before any work."""
    monkeypatch.chdir(tmp_path)

    def made(model: str, command: Command | None = None, **options: Any) -> Any:
        given = {"data_path": str(atomic_folder), "use_gpu": False, **options}
        return checked_config(model, "tiny", [], given, command)

    return made


@pytest.mark.parametrize(("model", "options", "message"), REFUSED)
def test_it_is_refused_before_any_work_with_its_name_and_what_is_accepted(check, model, options, message):
    with pytest.raises(UserError, match=message):
        check(model, **options)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("Pop", {"user_inter_num_interval": "[1,3);(4, inf)", "item_inter_num_interval": None}),
        ("Pop", {"val_interval": {"timestamp": "[0,9]", "item_id": ["i1", "i2"]}}),
        # As a flag's value is read.
        ("Pop", {"user_inter_num_interval": [2, 9], "val_interval": {"timestamp": (0, 9)}}),
        ("GRU4Rec", {"clip_grad_norm": {"max_norm": 1, "norm_type": 2}, "learner": "AdamW", "state": None}),
        ("GRU4Rec", {"loss_type": "BPR", "epochs": 2.0, "dropout_prob": 0, "use_gpu": 0}),
        ("BPR", {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": None}}),
        ("SASRec", {"transform": "crop_itemseq", "eta": 0.5}),
        ("SASRecCPR", {"reranker_CAN_NUM": "500,100,20"}),
        ("Pop", {"load_col": {"inter": "*", "item": ["item_id", "price"]}, "normalize_field": ["price"]}),
        ("BPR", {"RATING_FIELD": None}),
        ("SASRec", {"selected_features": ["class"], "item_attribute": "class", "seq_len": {"title": 5}}),
        ("Pop", {"load_col": None, "topk": 5, "metrics": "Recall", "valid_metric": "Recall@5"}),
    ],
)
def test_what_recbole_takes_is_taken(check, model, options):
    check(model, **options)


def test_a_place_may_be_a_path(check, tmp_path):
    check("Pop", checkpoint_dir=tmp_path / "saved", data_path=tmp_path / "data")


def test_intervals_are_read_as_recbole_reads_them(check):
    from recbole.data.dataset import Dataset

    for text in ("[5,inf)", "(0, 1];[3,4)", "[-inf,2.5]"):
        assert is_interval(text)
        assert Dataset._parse_intervals_str(None, text)
    assert not any(map(is_interval, ("", "[]", "[1]", "1,2", "[1,2,3]", "[nan,2]", "[a,b]", "[1,2);")))


def test_options_without_effect_are_told(check, caplog):
    check("GRU4Rec", save_dataset=True, nproc=2, metric_decimal_place=2)
    told = [record.getMessage() for record in caplog.records if "has no effect" in record.getMessage()]
    assert told == [
        "metric_decimal_place: 2 has no effect here: result.json holds all digits",
        "nproc: 2 has no effect here: start several processes with accelerate launch or torchrun",
        "save_dataset: True has no effect here: every run reads the atomic files again",
    ]


def test_options_that_ask_for_nothing_are_not_told(check, caplog):
    check("GRU4Rec", save_dataset=False, metric_decimal_place=4, valid_metric_bigger=True)
    assert "has no effect" not in caplog.text


def test_an_option_of_another_model_is_told_where_no_compared_model_reads_it(check):
    options = {"n_heads": 4, "mask_ratio": 0.3, "num_layers": 2}
    gru, sas = check("GRU4Rec", **options), check("SASRec", **options)
    assert [*unread_options([gru], model_options())] == [
        "option 'mask_ratio' has no effect: GRU4Rec does not read it",
        "option 'n_heads' has no effect: GRU4Rec does not read it",
    ]
    assert [*unread_options([gru, sas], model_options())] == [
        "option 'mask_ratio' has no effect: GRU4Rec, SASRec does not read it"
    ]


def test_a_flag_for_a_model_that_is_not_compared_is_told(check):
    command = Command(flags={"SASRec.n_heads": "4", "GRU4Rec.epochs": "2"})
    assert [*unread_options([check("GRU4Rec", command, **{"Pop.epochs": 1})], model_options())] == [
        "flag --SASRec.n_heads has no effect: SASRec is not compared (GRU4Rec)"
    ]


def test_loaded_columns_follow_the_names_of_users_items_and_times(check, atomic_folder):
    path = atomic_folder / "tiny" / "tiny.inter"
    path.write_text(path.read_text().replace("user_id:token\titem_id:token\ttimestamp", "who:token\twhat:token\tat"))
    config = check("Pop", USER_ID_FIELD="who", ITEM_ID_FIELD="what", TIME_FIELD="at")
    assert config["load_col"] == {"inter": ["who", "what", "at"]}


def test_log_wandb_needs_wandb(check, monkeypatch):
    monkeypatch.setattr("recbole_llmtrsr.config.recbole_options._is_installed", lambda package: False)
    with pytest.raises(UserError, match="log_wandb: True needs the package wandb: pip install wandb"):
        check("GRU4Rec", log_wandb=True)
