"""What every language-model recommender must do: learn a signal and no noise, come back from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertLMHeadModel, PreTrainedTokenizerFast

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer

TINY = {
    "builtin_hidden_size": 32,
    "builtin_n_layers": 2,
    "builtin_n_heads": 2,
    "builtin_vocab_size": 400,
    "max_prompt_tokens": 400,
    "show_progress": False,
    "use_gpu": False,
    "state": "ERROR",
    "eval_args": {"mode": "uni5"},
    "candidate_exclusion": "target",
    "learning_rate": 0.01,
    "metrics": ["MRR"],
    "topk": [5],
    "valid_metric": "MRR@5",
}
PROMPTED = {
    "epochs": 4,
    "n_recent_items": 2,
    "item_text_labels": False,
    "train_batch_size": 40,
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 4},
}
SEQUENCE = {"epochs": 12, "targets_per_prompt": 8, "train_batch_size": 80, "vector_dropout": 0.0}
SEQUENCES = {"HLLM": {**SEQUENCE, "n_shared_negatives": 4}, "LiteLLM4Rec": {**SEQUENCE, "summary": "none"}}
MODELS = {**SEQUENCES, "LLMTRSR": {**PROMPTED, "summary": "none"}, "TALLRec": PROMPTED}
# TALLRec is LLMTRSR with other options.
PARAMS = [pytest.param(name, marks=pytest.mark.slow if name == "TALLRec" else ()) for name in MODELS]
COLOURS = ["red", "green", "blue", "black", "white", "pink", "gold", "grey"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_walks(folder, signal, n_users=120):
    """Each user walks through the colours in a circle, or jumps at random."""
    rng = np.random.default_rng(0)
    (folder / "toy").mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        start = int(rng.integers(8))
        walk = [(start + k) % 8 for k in range(8)] if signal else rng.integers(8, size=8)
        rows += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(walk)]
    (folder / "toy" / "toy.inter").write_text("\n".join(rows) + "\n")
    items = ["item_id:token\ttitle:token_seq", *(f"i{k}\t{colour}" for k, colour in enumerate(COLOURS))]
    (folder / "toy" / "toy.item").write_text("\n".join(items) + "\n")


def built(name, signal=False, n_users=120, **options):
    """A trainer over the walks of users, and the loaders."""
    if not Path("data").exists():
        write_walks(Path("data"), signal, n_users)
    model_class = get_model(name)
    config = Config(model_class, "toy", [], {**TINY, **MODELS[name], "data_path": "data", **options})
    torch.manual_seed(0)
    np.random.seed(0)
    (train, valid, test), *_ = make_loaders(config, get_dataset(model_class)(config))
    model = model_class(config, train._dataset)
    return get_trainer(model_class)(config, model), train, valid, test


def model_and_test_rows(name, **options):
    """An untrained model, in eval mode, and the first batch of its test."""
    trainer, _, _, test = built(name, **options)
    return trainer.model.eval(), next(iter(test))[0]


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize(("signal", "low", "high"), [(True, 0.8, 1.0), (False, 0.28, 0.48)])
def test_a_signal_is_learned_and_without_one_the_model_stays_at_chance(name, signal, low, high):
    """Chance among 6 candidates is 0.38 MRR@5."""
    is_prompted = name not in SEQUENCES
    n_users = 60 if is_prompted and signal else 120  # a mean of noise needs more
    options = {} if signal or not is_prompted else {"epochs": 2}
    trainer, train, _, test = built(name, signal, n_users, **options)
    trainer.fit(train, None, saved=False, show_progress=False)
    assert low <= trainer.evaluate(test, load_best_model=False)["mrr@5"] <= high


@pytest.mark.parametrize("name", PARAMS)
def test_a_checkpoint_brings_the_scores_back(name):
    trainer, train, valid, test = built(name, signal=True, epochs=1)
    trainer.fit(train, valid, show_progress=False)
    other, *_ = built(name, seed=7)
    rows = next(iter(test))[0]
    with torch.no_grad():
        own = trainer.model.eval().predict(rows)
        assert not torch.allclose(other.model.eval().predict(rows), own)
        other.resume_checkpoint(trainer.saved_model_file)
        torch.testing.assert_close(other.model.eval().predict(rows), own)


@pytest.mark.parametrize("name", SEQUENCES)
def test_full_ranking_gives_the_scores_of_candidates(name):
    model, rows = model_and_test_rows(name)
    with torch.no_grad():
        full = model.full_sort_predict(rows).view(len(rows), -1)
        found = model.predict(rows)
    torch.testing.assert_close(full[torch.arange(len(rows)), rows["item_id"]], found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PARAMS)
def test_a_score_depends_on_nothing_but_history_and_item(name):
    model, rows = model_and_test_rows(name)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = model.predict(rows)
        torch.testing.assert_close(model.predict(rows[order]), together[order], atol=1e-5, rtol=0)
        alone = torch.cat([model.predict(rows[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(alone, together[:12], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PARAMS)
def test_weights_that_nothing_reads_are_not_trained(name):
    trainer, train, _, _ = built(name)
    trainer.model.train()
    trainer.model.calculate_loss(next(iter(train))).backward()
    without = [name for name, weight in trainer.model.trainable_weights().items() if weight.grad is None]
    assert without == []


@pytest.mark.parametrize("name", SEQUENCES)
def test_no_more_events_are_read_in_training_than_in_the_test(name, monkeypatch):
    trainer, train, _, test = built(name, MAX_ITEM_LIST_LENGTH=4, targets_per_prompt=3)
    model, read = trainer.model, []
    states = model._states
    monkeypatch.setattr(
        model, "_states", lambda vectors, n, rows: read.append(n.max().item()) or states(vectors, n, rows)
    )
    for rows in train:
        model.calculate_loss(rows)
    model.eval().predict(next(iter(test))[0])
    assert set(read) == {4}


@pytest.mark.parametrize("name", SEQUENCES)
def test_scores_are_single_precision_and_full_ranking_agrees_under_bf16(name):
    model, rows = model_and_test_rows(name)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        full, found = model.full_sort_predict(rows).view(len(rows), -1), model.predict(rows)
    assert full.dtype == found.dtype == torch.float32
    torch.testing.assert_close(full[torch.arange(len(rows)), rows["item_id"]], found, atol=0.02, rtol=0)
    assert len(full.unique()) > 100


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(("share", "is_equal"), [(0.0, True), (0.5, False)])
def test_elements_of_vectors_are_missing_in_training_alone(name, share, is_equal):
    model, rows = model_and_test_rows(name, vector_dropout=share)
    with torch.no_grad():
        assert torch.equal(model.train().predict(rows), model.predict(rows)) == is_equal
        assert torch.equal(model.eval().predict(rows), model.predict(rows))


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}},
            "only ranks, but metrics ['AUC'] compare predictions with labels",
        ),
        ({"train_on": "impressions"}, "train_on: impressions requires a model that reads candidates"),
        ({"targets_per_prompt": 60}, "targets_per_prompt: 60 is more than the 50 recent events"),
    ],
)
def test_what_sequences_cannot_do_is_refused(name, options, part):
    write_walks(Path("data"), False)
    given = {**TINY, **MODELS[name], "data_path": "data", **options}
    config = Config(get_model(name), "toy", [], given)
    with pytest.raises(UserError) as refused:
        get_model(name).check_config(config)
    assert part in str(refused.value)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_history_without_an_event_is_refused(name):
    model, rows = model_and_test_rows(name)
    rows["item_length"][0] = 0
    with pytest.raises(UserError, match="a target has no event before it"):
        model.predict(rows)


def tiny_bert(folder, is_decoder, positions=512):
    known = ["[PAD]", "[UNK]", "yes", "no", *COLOURS]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(1)
    BertLMHeadModel(
        BertConfig(vocab_size=len(known), is_decoder=is_decoder, max_position_embeddings=positions, **sizes)
    ).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_backbone_that_sees_what_comes_later_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="attends to later events"):
        built(name, backbone=tiny_bert(tmp_path / "bert", False))


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize(
    "options", [{"tune": "lora"}, {"tune": "all"}, {"tune": "lora", "gradient_checkpointing": True}]
)
def test_a_pretrained_backbone_is_trained_saved_and_loaded(tmp_path, name, options):
    options = {"backbone": tiny_bert(tmp_path / "bert", True), "epochs": 1, **options}
    trainer, train, valid, test = built(name, signal=True, **options)
    before = {key: weight.detach().clone() for key, weight in trainer.model.trainable_weights().items()}
    trainer.fit(train, valid, show_progress=False)
    weights = trainer.model.trainable_weights()
    assert [key for key, weight in weights.items() if torch.equal(weight, before[key])] == []
    other, *_ = built(name, **options)
    rows = next(iter(test))[0]
    with torch.no_grad():
        own = trainer.model.eval().predict(rows)
        other.resume_checkpoint(trainer.saved_model_file)
        torch.testing.assert_close(other.model.eval().predict(rows), own)


def test_frozen_items_of_hllm_stay_as_they_are(tmp_path):
    options = {"backbone": tiny_bert(tmp_path / "bert", True), "epochs": 1, "tune_items": False}
    trainer, train, valid, _ = built("HLLM", signal=True, **options)
    table = trainer.model._item_table().clone()
    trainer.fit(train, valid, show_progress=False)
    assert torch.equal(trainer.model._item_table(), table)
    assert not any(key.startswith("backbone.") for key in trainer.model.trainable_weights())
    saved = Path(trainer.saved_model_file).with_suffix("")
    assert sorted(path.name for path in saved.iterdir()) == ["user"]


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("HLLM", {}, "has 5 positions, but the input may hold up to 10 vectors and tokens: lower max_item_tokens"),
        ("HLLM", {"MAX_ITEM_LIST_LENGTH": 9}, "up to 9 vectors and tokens: lower MAX_ITEM_LIST_LENGTH"),
        (
            "LiteLLM4Rec",
            {"MAX_ITEM_LIST_LENGTH": 9},
            "up to 9 vectors and tokens: lower MAX_ITEM_LIST_LENGTH",
        ),
    ],
)
def test_a_backbone_with_too_few_positions_is_refused(tmp_path, name, options, part):
    write_walks(Path("data"), False)
    items = Path("data/toy/toy.item")
    items.write_text(items.read_text().replace("red", "red " * 10))
    bert = tiny_bert(tmp_path / "bert", True, positions=5)
    given = {"backbone": bert, "item_text_labels": False, "MAX_ITEM_LIST_LENGTH": 5, "targets_per_prompt": 2, **options}
    with pytest.raises(UserError, match=part):
        built(name, **given)


def test_a_backbone_of_just_as_many_positions_as_events_will_do_without_a_summary(tmp_path):
    bert = tiny_bert(tmp_path / "bert", True, positions=5)
    options = {"backbone": bert, "item_text_labels": False, "MAX_ITEM_LIST_LENGTH": 5, "targets_per_prompt": 2}
    for name in SEQUENCES:
        model, rows = model_and_test_rows(name, **options)
        with torch.no_grad():
            assert torch.isfinite(model.predict(rows)).all()
