"""RecBole's models come back from their checkpoints with the scores of their test, and give top items."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
import toy
from recbole.utils.case_study import full_sort_scores, full_sort_topk
from transformers import BertConfig, BertModel

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.recommend import load_data_and_model, load_run
from recbole_llmtrsr.registry import get_trainer
from recbole_llmtrsr.training.run_trainer import run_trainer

_numbers = itertools.count()
SMALL = {"epochs": 1, "embedding_size": 16, "hidden_size": 16, "inner_size": 16, "n_layers": 1}


@pytest.fixture
def train(make_config):
    """Trains a model of RecBole's on the tiny data set; its result."""
    fixed = {name: make_config()[name] for name in ("use_gpu", "show_progress")}

    def run(model, **options):
        fixed_here = {**fixed, **SMALL, "data_path": "data", "result_dir": f"out/{next(_numbers)}", **options}
        (result,), folder = compare([model], "tiny", config_dict=fixed_here)
        return {**result, "folder": folder}

    return run


@pytest.mark.parametrize("model", ["SASRec", "BPR", "Pop", "ItemKNN", "LLMSeqSim"])
def test_a_loaded_model_has_the_result_of_its_test_and_top_items(train, model):
    result = train(model, eval_args={"mode": "uni2"})
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    config, loaded, dataset, _, valid, test = load_data_and_model(result["checkpoint"])
    assert torch.equal(torch.rand(1), expected)
    assert isinstance(config, Config)
    assert not loaded.training
    assert (len(valid._dataset), len(test._dataset)) == (result["n_valid"], result["n_test"])
    found = get_trainer(config.model_class)(config, loaded).evaluate(test, load_best_model=False)
    assert found.keys() == result["test_result"].keys()

    config, loaded, dataset, _, _, test = load_data_and_model(result["checkpoint"], {"eval_args": {"mode": "full"}})
    users = dataset.token2id("user_id", ["six", "unix"])
    scores, items = full_sort_topk(users, loaded, test, k=3)
    assert scores.shape == items.shape == (2, 3)
    assert torch.equal(scores, full_sort_scores(users, loaded, test).topk(3)[0])
    assert {f"i{n}" for n in range(1, 10)} >= set(dataset.id2token("item_id", items.numpy()).ravel())


@pytest.fixture
def encoder(tmp_path):
    """A folder with a tiny BERT of width 8."""
    tokenizer = train_tokenizer(["a red kettle"])
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


def test_a_loaded_model_has_the_text_vectors_of_its_run(train, encoder, tmp_path_factory):
    elsewhere = {"text_encoder": encoder, "vector_dir": str(tmp_path_factory.mktemp("elsewhere") / "vectors")}
    result = train("LLMSeqSim", eval_args={"mode": "uni2"}, **elsewhere)
    with pytest.raises(UserError, match=r"\(vector_dir\), outside of this folder"):
        load_data_and_model(result["checkpoint"])
    with pytest.raises(UserError, match=r"text_encoder 'tfidf' makes other vectors than"):
        load_data_and_model(result["checkpoint"], {**elsewhere, "text_encoder": "tfidf"})
    for given in (elsewhere, {"vector_dir": "here"}):
        config, loaded, *_, test = load_data_and_model(result["checkpoint"], given)
        assert loaded.vectors.shape[1] == 8
        found = get_trainer(config.model_class)(config, loaded).evaluate(test, load_best_model=False)
        assert found == pytest.approx({name: result["test_result"][name] for name in found})


@pytest.mark.parametrize("model", ["Pop", "LLMSeqSim"])
def test_what_only_compared_models_read_is_no_matter(train, tmp_path_factory, model):
    unread = {"backbone": "some/model", "summarizer": "some/model", "retriever": "Pop"}
    places = dict.fromkeys(("summary_store", "candidate_dir"), str(tmp_path_factory.mktemp("elsewhere") / "made"))
    checkpoint = train(model, eval_args={"mode": "uni2"}, **unread, **places)["checkpoint"]
    assert type(load_data_and_model(checkpoint)[1]).__name__ == model


def test_the_split_stays_that_of_the_run(train):
    by_ratio = {"mode": "full", "split": {"RS": [0.2, 0.4, 0.4]}}
    checkpoint = train("BPR", eval_args=by_ratio)["checkpoint"]
    config, *_ = load_data_and_model(checkpoint, {"eval_args": {"mode": "uni2"}})
    assert config["eval_args"]["split"] == {"RS": [0.2, 0.4, 0.4]}
    with pytest.raises(UserError, match="has other events held out"):
        load_data_and_model(checkpoint, {"eval_args": {"split": {"LS": "valid_and_test"}}})


def test_other_data_and_options_are_refused(train, atomic_folder):
    checkpoint = train("BPR", eval_args={"mode": "uni2"})["checkpoint"]
    with pytest.raises(UserError, match="options epochs, seed are the run's: only data_path, "):
        load_data_and_model(checkpoint, {"seed": 1, "epochs": 3})
    with pytest.raises(UserError, match=r"no tiny\.inter in"):
        load_data_and_model(checkpoint, {"data_path": "nowhere"})
    inter = atomic_folder / "tiny" / "tiny.inter"
    inter.write_text(inter.read_text().replace("six\ti1\t1", "six\ti1\t2.5"))
    with pytest.raises(UserError, match=r"has other tiny\.inter than when"):
        load_data_and_model(checkpoint)


def test_what_is_no_checkpoint_of_such_a_model_is_refused(train, tmp_path):
    checkpoint = train("Pop", eval_args={"mode": "uni2"})["checkpoint"]
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({"state_dict": {}}, tmp_path / "bare.pth")
    with pytest.raises(UserError, match="does not hold its options and data"):
        load_data_and_model(tmp_path / "bare.pth")
    torch.save({**saved, "config": {**saved["config"], "model": "LLMTRSR"}}, tmp_path / "llm.pth")
    with pytest.raises(
        UserError, match=r"is of a LLMTRSR, which reads summaries and prompts: .* recbole_llmtrsr\.load_run"
    ):
        load_data_and_model(tmp_path / "llm.pth")
    with pytest.raises(UserError, match="cannot be read"):
        load_data_and_model(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("SASRec", {}),
        ("LLMSeqSim", {}),
        ("LLMTRSR", {"summary": "recurrent"}),
        ("LLMTRSR", {"retriever": "Pop", "rerank_top_k": 3, "exclude_seen": "yes", "eval_args": {"mode": "full"}}),
        pytest.param("TALLRec", {}, marks=pytest.mark.slow),
        pytest.param("HLLM", {}, marks=pytest.mark.slow),
        ("LiteLLM4Rec", {}),
    ],
)
def test_a_loaded_run_of_any_model_has_the_result_of_its_test(train, model, options):
    options = {**toy.SMALL, "block_size": 2, "summary_store": "store.sqlite", "eval_args": {"mode": "uni2"}, **options}
    result = train(model, **options)
    config, loaded, dataset, train_data, valid, test = load_run(result["folder"])
    assert not loaded.training
    assert (len(valid._dataset), len(test._dataset)) == (result["n_valid"], result["n_test"])
    assert next(iter(train_data)) is not None
    assert dataset.item_num == result["n_items"] + 1
    trainer = run_trainer(get_trainer(config.model_class))(config, loaded, lambda stage: nullcontext())
    assert trainer.evaluate(test, load_best_model=False) == pytest.approx(result["test_result"], abs=1e-6)


def test_what_is_no_finished_run_is_not_loaded(train, tmp_path):
    with pytest.raises(UserError, match=r"holds no result\.json, so it is no run"):
        load_run(tmp_path / "nothing")
    folder = train("Pop", eval_args={"mode": "uni2"})["folder"]
    with pytest.raises(UserError, match="options epochs are the run's"):
        load_run(folder, options={"epochs": 3})
    with pytest.raises(UserError, match=r"checkpoint elsewhere\.pth of the run in .* does not exist"):
        load_run(folder, checkpoint="elsewhere.pth")
