from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from recbole_llmtrsr.config import sources
from recbole_llmtrsr.config.config import Config, SavedConfig
from recbole_llmtrsr.config.settings import OPTION_NAMES
from recbole_llmtrsr.config.sources import Command, option_from_sources, preset_files, preset_names, properties_dir
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_model

PROTOCOL = {
    "split": {"LS": "valid_and_test"},
    "group_by": "user",
    "order": "TO",
    "mode": {"valid": "uni20", "test": "uni20"},
}


@pytest.fixture
def config(tmp_path):
    """Makes a Config from flags, a property file's text and a dictionary."""

    def make(model="LLMTRSR", flags=(), file=None, options=None, files=(), label=None) -> Config:
        if file is not None:
            files = [tmp_path / "own.yaml"]
            files[0].write_text(file)
        return Config(get_model(model), "tiny", files, options, label, Command(flags=sources.flags(flags)))

    return make


@pytest.mark.parametrize("model", ["LLMTRSR", "SASRec", "Pop", "BPR"])
def test_every_model_has_the_protocol(config, model):
    made = config(model)
    assert made["eval_args"] == PROTOCOL
    assert (made["metrics"], made["topk"], made["valid_metric"]) == (["Recall", "MRR", "NDCG"], [3, 5, 10], "MRR@10")
    assert made["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}


def test_our_model_file_is_for_our_model_alone(config):
    assert (config().label, config()["learning_rate"]) == ("LLMTRSR", 0.001)
    assert config("SASRec")["train_batch_size"] == 2048


def test_flags_beat_the_dictionary_and_that_the_file(config):
    sources = {
        "flags": ["--epochs=4"],
        "file": "epochs: 2\nseed: 2\nblock_size: 2\n",
        "options": {"epochs": 3, "seed": 3},
    }
    made = config(**sources)
    assert (made["epochs"], made["seed"], made["block_size"]) == (4, 3, 2)
    assert made.settings.summary.block_size == 2


def test_later_files_beat_earlier_ones(config, tmp_path):
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    files[0].write_text("epochs: 1\nseed: 1\n")
    files[1].write_text("epochs: 2\n")
    made = config("Pop", files=files)
    assert (made["epochs"], made["seed"]) == (2, 1)


@pytest.mark.parametrize(
    "sources",
    [
        {"file": "eval_args: {mode: pop5}"},
        {"options": {"eval_args": {"mode": "pop5"}}},
        {"flags": ["--eval_args={'mode':'pop5'}"]},
        {"flags": ["--eval_args={mode: pop5}"]},
        {"file": "eval_args: {mode: uni7}", "flags": ["--eval_args={'mode':'pop5'}"]},
    ],
)
def test_naming_the_mode_alone_keeps_the_split(config, sources):
    assert config(**sources)["eval_args"] == {**PROTOCOL, "mode": {"valid": "pop5", "test": "pop5"}}


def test_keys_of_several_sources_are_merged(config):
    made = config(
        file="eval_args: {order: RO, mode: uni7}",
        options={"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}},
        flags=["--eval_args={'group_by': 'none'}"],
    )
    assert made["eval_args"] == {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "RO",
        "group_by": "none",
        "mode": {"valid": "uni7", "test": "uni7"},
    }


@pytest.mark.parametrize(
    "sources",
    [
        {"file": "SASRec.epochs: 7\nepochs: 3\n"},
        {"options": {"epochs": 3, "SASRec.epochs": 7}},
        {"flags": ["--SASRec.epochs=7", "--epochs=3"]},
        {"file": "SASRec.epochs: 5\n", "flags": ["--SASRec.epochs=7", "--epochs=3"], "options": {"epochs": 2}},
    ],
)
def test_a_dotted_option_reaches_its_model_alone(config, sources):
    assert config("SASRec", **sources)["epochs"] == 7
    assert config("LLMTRSR", **sources)["epochs"] == 3


def test_a_dotted_option_of_a_weaker_source_yields_to_a_plain_one(config):
    assert config("SASRec", file="SASRec.epochs: 5\n", flags=["--epochs=3"])["epochs"] == 3


def test_a_dotted_eval_args_is_merged_too(config):
    made = config("SASRec", flags=["--SASRec.eval_args={'mode': 'full'}"])
    assert made["eval_args"] == {**PROTOCOL, "mode": {"valid": "full", "test": "full"}}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"file": "blok_size: 3"}, "option 'blok_size' does not exist; did you mean 'block_size'?"),
        ({"options": {"epocs": 3}}, "option 'epocs' does not exist; did you mean 'epochs'?"),
        ({"flags": ["--learnin_rate=1"]}, "option 'learnin_rate' does not exist; did you mean 'learning_rate'?"),
        ({"flags": ["--SASRec.epocs=3"]}, "option 'epocs' does not exist; did you mean 'epochs'?"),
        ({"flags": ["--evalargs={}"]}, "option 'evalargs' does not exist; did you mean 'eval_args'?"),
        (
            {"flags": ["--SasRec.epochs=3"]},
            "option 'SasRec.epochs' names the model 'SasRec', which does not exist; did you mean 'SASRec'?",
        ),
        (
            {"file": "eval_args: {modus: full}"},
            "eval_args has no key 'modus'; its keys are split, order, group_by, mode",
        ),
        (
            {"file": "eval_args: {modus: full}", "options": {"eval_args": {"mode": "full"}}},
            "eval_args has no key 'modus'; its keys are split, order, group_by, mode",
        ),
        (
            {"flags": ["--LLMTRSR.train_neg_sample_args={'n': 4}"]},
            "LLMTRSR.train_neg_sample_args has no key 'n'; its keys are distribution, sample_num, alpha, dynamic,"
            " candidate_num",
        ),
    ],
)
def test_a_misspelt_option_is_an_error_with_the_real_name(config, sources, message):
    with pytest.raises(UserError) as fault:
        config(**sources)
    assert fault.value.faults == (message,)


def test_every_real_option_is_known(config, caplog):
    config(options={"SASRec.n_layers": 3, "wandb_project": "x", "mlp_hidden_size": [8], "encoding": "utf-8"})
    assert "no effect" not in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_asked_for_and_missing_is_told(config, caplog):
    assert config(options={"gpu_id": "0"})["device"].type == "cpu"
    assert "gpu_id: 0 was asked for, but torch" in caplog.text
    caplog.clear()
    config()
    config(options={"gpu_id": ""})
    SavedConfig(get_model("SASRec"), "tiny", None, {"gpu_id": "0"})  # a retriever's, with the device of the run
    assert "was asked for" not in caplog.text


def test_an_option_like_no_other_is_a_warning(config, caplog):
    config(options={"zebra": 1})
    assert "option 'zebra' is known neither to RecBole nor to recbole_llmtrsr and has no effect" in caplog.text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=b=c", "a=b=c"),
        ("{'a': 'x=y'}", {"a": "x=y"}),
        ("", ""),
        ("True", True),
        ("false", False),
        ("None", None),
        ("~", None),
        ("1e-3", 0.001),
        ("-3", -3),
        ("007", "007"),
        ("['a', 1]", ["a", 1]),
        ("[a, 1]", ["a", 1]),
        ("{mode: uni5}", {"mode": "uni5"}),
        ("[never closed", "[never closed"),
        ("[2020-13-45]", "[2020-13-45]"),
        ("two words", "two words"),
        ("line\nbreak", "line\nbreak"),
        ("no", "no"),
        ("Æ/ø", "Æ/ø"),
        ("(" * 500, "(" * 500),
    ],
)
def test_a_flag_is_a_literal_or_its_text(config, text, value):
    made = config("Pop", flags=[f"--config_file={text}"])["config_file"]
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('pathlib').Path('ran').touch()",
        "[__import__('pathlib').Path('ran').touch()]",
        "{'a': open('ran', 'w')}",
        "(lambda: open('ran', 'w'))()",
        "[!!python/object/apply:os.mkdir [ran]]",
        "exit()",
    ],
)
@pytest.mark.parametrize("source", ["flags", "options"])
def test_no_value_is_ever_run_as_code(config, tmp_path, monkeypatch, text, source):
    monkeypatch.chdir(tmp_path)
    given = {"flags": [f"--config_file={text}"]} if source == "flags" else {"options": {"config_file": text}}
    config("Pop", **given)
    assert not Path("ran").exists()


def test_the_log_tells_where_a_models_own_option_is_beaten(config, caplog):
    given = {"file": "SASRec.epochs: 5\nSASRec.train_batch_size: 64\nSASRec.stopping_step: 3\n"}
    flags = ["--epochs=3", "--train_batch_size=32", "--SASRec.train_batch_size=16", "--stopping_step=3"]
    made = config("SASRec", **given, flags=flags)
    assert (made["epochs"], made["train_batch_size"], made["stopping_step"]) == (3, 16, 3)
    assert [record.getMessage() for record in caplog.records if "came before it" in record.getMessage()] == [
        "epochs: 3 applies to every model, also to SASRec, whose epochs: 5 came before it (property files in their"
        " order, then config_dict, then flags); set SASRec.epochs where it should stay"
    ]
    caplog.clear()
    config("GRU4Rec", **given, flags=flags)
    assert "came before it" not in caplog.text


def test_a_flag_given_twice_must_say_the_same(config):
    assert config("Pop", flags=["--epochs=3", "--epochs=3"])["epochs"] == 3
    with pytest.raises(UserError, match="flag --epochs is given twice, with '3' and '4': keep one"):
        config("Pop", flags=["--epochs=3", "--epochs=4"])


def test_flags_of_the_runner_are_no_options(config, caplog):
    made = config("Pop", flags=["--model=BPR", "--dataset=other", "--config_files=a b", "--preset=paper"])
    assert (made["model"], made["dataset"]) == ("Pop", "tiny")
    assert "no effect" not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs: [1", "cannot be read"),
        (b"- epochs\n", "must hold 'option: value' lines, it holds a list"),
        (b"epochs", "it holds a str"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"1: 2\n", r"option names must be words, got \[1\]"),
        (b"no: 2\n", r"option names must be words, got \[False\]"),
    ],
)
def test_a_property_file_that_is_none_is_named(config, tmp_path, content, message):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"property file .*bad\.yaml.*{message}"):
        config("Pop", files=[tmp_path / "bad.yaml"])


def test_an_empty_property_file_says_nothing_and_a_missing_one_is_named(config, tmp_path):
    assert config("Pop", file="# nothing\n")["eval_args"] == PROTOCOL
    for missing in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(UserError, match=rf"property file {missing} cannot be read"):
            config("Pop", files=[missing])


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": ["Recal"]},
        {"metrics": ["Recall", "AUC"]},
        {"eval_args": "uni20"},
        {"train_neg_sample_args": 4},
        {"repeatable": False},
    ],
)
def test_what_recbole_refuses_is_the_users_fault(config, options):
    with pytest.raises(UserError, match=r"RecBole does not accept these options: ."):
        config(options=options)


def test_a_softmax_loss_drops_the_negatives_of_models_that_read_it(config):
    assert config("SASRec")["train_neg_sample_args"]["distribution"] == "none"
    assert config("SASRec", options={"loss_type": "BPR"})["train_neg_sample_args"]["sample_num"] == 1
    # A loss meant for its neighbours in a comparison does not take LLMTRSR's negatives away.
    assert config("LLMTRSR", options={"loss_type": "CE"})["train_neg_sample_args"]["sample_num"] == 8


def test_effective_options_are_plain_and_complete(config):
    own = config(options={"answers": ["ja", "nein"]}).effective_options()
    assert own["answers"] == ["ja", "nein"]
    assert {*OPTION_NAMES, "epochs", "eval_args", "seed"} <= set(own)
    assert yaml.safe_load(yaml.safe_dump(own)) == own


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        ("match20", {"distribution": "uniform", "sample_num": 1}),
        ("impressions", {"distribution": "uniform", "sample_num": 1}),
        ("full", {"distribution": "uniform", "sample_num": "none"}),
    ],
)
def test_recbole_is_told_of_a_mode_in_words_of_its_own(config, mode, arguments):
    made = config(options={"eval_args": {"split": {"US": [0.8, 0.1, 0.1]}, "mode": {"valid": "uni5", "test": mode}}})
    assert made["test_neg_sample_args"] == arguments
    assert made["eval_args"]["mode"] == {"valid": "uni5", "test": mode}


@pytest.mark.parametrize("split", [{"XS": [1]}, {"LS": "valid_and_test", "US": [1, 1, 1]}, "US", None])
def test_a_split_that_does_not_exist_is_refused_with_those_that_do(config, split):
    with pytest.raises(UserError, match=r"eval_args split must be one of {LS: .*{US: \[0.8, 0.1, 0.1\]} \(by user\)"):
        config(options={"eval_args": {"split": split}})


@pytest.mark.parametrize(("label", "size"), [("LLMTRSR@short", 3), ("LLMTRSR@long", 4), ("LLMTRSR", 4)])
def test_an_option_of_a_label_beats_that_of_its_model(config, label, size):
    flags = ["--LLMTRSR@short.block_size=3", "--LLMTRSR.block_size=4"]
    assert config(flags=flags, options={"block_size": 6}, label=label).settings.summary.block_size == size


def test_the_data_seed_is_the_seed_unless_it_is_set(config):
    assert config(options={"seed": 3}).data_seed == 3
    assert config(options={"seed": 3, "data_seed": 0}).data_seed == 0


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_makes_a_config(config, name):
    content = yaml.safe_load(preset_files(name)[-1].read_text(encoding="utf-8"))
    made = config(files=preset_files(name))
    assert {key: made[key] for key in content if key in OPTION_NAMES} == {
        key: value for key, value in content.items() if key in OPTION_NAMES
    }


def test_a_preset_may_build_on_another():
    assert [file.stem for file in preset_files("paper_mind")] == ["paper", "paper_mind"]
    made = Config(get_model("LLMTRSR"), "mind", [], {}, command=Command(flags={"preset": "paper_mind"}))
    assert made["eval_args"]["split"] == {"US": [10000, 1000, 1000]}
    assert made["eval_args"]["order"] == "TO"
    assert made["val_interval"] == {"from_impression": "[0,0]"}
    assert made.settings.training.loss_on == "full"
    assert made["train_neg_sample_args"]["sample_num"] == 1


@pytest.mark.parametrize("model", ["LLMTRSR", "TALLRec"])
@pytest.mark.parametrize("preset", ["paper_mind", "paper_amazon_m2"])
def test_the_presets_of_the_paper_train_and_rank_as_it_says(config, model, preset):
    options = {"domain": "products", "item_text_fields": ["title"], "load_col": None}
    made = config(model, [f"--preset={preset}"], options=options)
    said = {
        **{"lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.05, "learning_rate": 1e-4, "epochs": 5},
        **{"train_batch_size": 8, "gradient_accumulation_steps": 8, "learner": "adamw", "adam_betas": [0.9, 0.95]},
        **{"weight_decay": 5e-4, "precision": "bf16", "max_prompt_tokens": 2048, "loss_on": "full", "block_size": 5},
        **{"n_recent_items": 5, "user_inter_num_interval": "[11,26]", "catalogue": "items", "topk": [3, 5, 10]},
        **{"metrics": ["Recall", "MRR"], "objective": "pointwise", "max_train_targets_per_user": 1},
        **{"lora_target_modules": None},  # those of attention, whatever the backbone calls them
    }
    assert {name: made[name] for name in said} == said
    assert made["eval_args"]["mode"] == {"valid": "uni20", "test": "uni20"}
    # RecBole ends training when more than `stopping_step` epochs in a row brought nothing: never before the fifth.
    assert made["stopping_step"] >= made["epochs"] - 2


@pytest.mark.parametrize("preset", [None, *(path.stem for path in (properties_dir() / "presets").glob("*.yaml"))])
def test_tallrec_differs_from_llmtrsr_in_the_summary_alone(config, preset):
    files = preset_files(preset) if preset else []
    ours, theirs = (config(name, files=files).effective_options() for name in ("LLMTRSR", "TALLRec"))
    differing = {name for name in ours if ours[name] != theirs[name]}
    # What only summaries ask for is not said again for a model that has none.
    assert differing <= {"model", "summary", "block_size", "summarizer"}
    assert (ours["summary"], theirs["summary"]) == ("hierarchical", "none")


@pytest.mark.parametrize("name", ["papr", "../model/LLMTRSR", "/etc/passwd", ""])
def test_a_preset_is_one_of_those_that_exist_and_no_path(name):
    with pytest.raises(UserError, match=rf"preset must be one of .*paper.*, got '{name}'"):
        preset_files(name)


def test_a_value_needed_early_comes_from_the_dictionary_then_the_last_file(tmp_path):
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    files[0].write_text("dataset: first\nmodel: Pop\n")
    files[1].write_text("dataset: second\n")
    assert option_from_sources("dataset", files, {"dataset": "third"}) == "third"
    assert option_from_sources("dataset", files, {}) == "second"
    assert option_from_sources("model", files, {}) == "Pop"
    assert option_from_sources("seed", files, {}) is None


def test_a_run_saved_before_tied_events_was_an_option_keeps_the_order_of_the_file():
    before = {"config": {"seed": 1}, "given_options": {}}
    assert SavedConfig.options_of(before)["tied_events"] == "file"
    since = {"config": {"seed": 1, "tied_events": "random"}, "given_options": {}}
    assert SavedConfig.options_of(since)["tied_events"] == "random"
