"""Vectors of texts: what they are, that they are kept, and that a stopped run goes on."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.embeddings import text_vectors as module
from recbole_llmtrsr.llm.embeddings.text_vectors import text_vectors, tfidf_vectors

WORDS = ["[PAD]", "[UNK]", "red", "blue", "kettle", "lamp", "desk"]
TEXTS = ["red kettle", "blue lamp blue lamp blue", "desk", "red red kettle"]


@pytest.fixture
def encoder(tmp_path):
    """A BERT of random weights whose tokens are words."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    folder = tmp_path / "encoder"
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def vectors_of(encoder, folder, texts=TEXTS, **options):
    fixed = {"device": torch.device("cpu"), "dtype": torch.float32, "max_tokens": 8, "show_progress": False}
    return text_vectors("text_encoder", str(encoder), texts, folder=folder, **{**fixed, **options})


def test_a_vector_is_the_mean_of_the_last_hidden_states_whatever_the_batch(encoder, tmp_path):
    found = vectors_of(encoder, tmp_path / "vectors")
    model = BertModel.from_pretrained(encoder).eval()
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
        with torch.no_grad():
            mean = model(ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, mean / mean.norm(), atol=1e-6)


def test_vectors_are_kept_for_the_same_texts_and_model_alone(encoder, tmp_path, monkeypatch):
    first = np.array(vectors_of(encoder, tmp_path / "vectors"))
    calls = []
    original = module._encoded
    monkeypatch.setattr(module, "_encoded", lambda *given: calls.append(1) or original(*given))
    assert np.array_equal(vectors_of(encoder, tmp_path / "vectors"), first)
    assert not calls
    vectors_of(encoder, tmp_path / "vectors", [*TEXTS[:3], "red"])
    assert len(calls) == 1
    vectors_of(encoder, tmp_path / "vectors", max_tokens=2)
    assert len(calls) == 2
    BertModel.from_pretrained(encoder).apply(
        lambda part: [torch.nn.init.normal_(p) for p in part.parameters()] and None
    ).save_pretrained(encoder)
    vectors_of(encoder, tmp_path / "vectors")
    assert len(calls) == 3


def test_a_stopped_run_goes_on_where_it_was(encoder, tmp_path, monkeypatch):
    whole = np.array(vectors_of(encoder, tmp_path / "whole"))
    monkeypatch.setattr(module, "_TEXTS_A_PART", 2)
    original, parts = module._encoded, []

    def stopped(model, tokens):
        parts.append(len(tokens))
        if len(parts) == 2:
            raise KeyboardInterrupt
        return original(model, tokens)

    monkeypatch.setattr(module, "_encoded", stopped)
    with pytest.raises(KeyboardInterrupt):
        vectors_of(encoder, tmp_path / "vectors")
    np.testing.assert_allclose(vectors_of(encoder, tmp_path / "vectors"), whole, atol=1e-6)
    assert parts == [2, 2, 2]


def test_texts_that_are_cut_are_counted(encoder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        vectors_of(encoder, tmp_path / "vectors", max_tokens=3)
    assert "2 of 4 texts have 3 tokens or more and may be cut" in caplog.text


def test_an_encoder_that_gives_every_text_one_vector_is_refused_also_when_its_vectors_are_kept(encoder, tmp_path):
    model = BertModel.from_pretrained(encoder)
    with torch.no_grad():
        model.encoder.layer[-1].output.LayerNorm.weight.zero_()
        model.encoder.layer[-1].output.LayerNorm.bias.normal_()
    model.save_pretrained(encoder)
    for _ in range(2):
        with pytest.raises(UserError, match=r"gives 4 texts the same vector.*: download the model again"):
            vectors_of(encoder, tmp_path / "vectors")
    assert vectors_of(encoder, tmp_path / "vectors", ["desk", "desk"]).shape == (2, 16)


def test_vectors_that_are_no_numbers_are_refused_and_not_kept(encoder, tmp_path):
    model = BertModel.from_pretrained(encoder)
    with torch.no_grad():
        model.encoder.layer[-1].output.dense.weight.mul_(1e38)
    model.save_pretrained(encoder)
    for _ in range(2):
        with pytest.raises(UserError, match=r"vectors are not finite in torch.float32: set precision: fp32"):
            vectors_of(encoder, tmp_path / "vectors")


def test_a_tokenizer_that_knows_no_word_of_the_texts_is_refused(encoder, tmp_path):
    with pytest.raises(
        UserError, match=r"covers no word of 2 texts \(all tokens are unknown\): replace it by the tokenizer"
    ):
        vectors_of(encoder, tmp_path / "vectors", ["oak chair", "wool rug of oak"])


def test_odd_texts_behind_others_are_no_fault_of_the_tokenizer(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TEXTS_A_PART", 2)
    assert vectors_of(encoder, tmp_path / "vectors", ["red desk", "lamp", "oak"]).shape == (3, 16)


def test_a_missing_encoder_is_refused_with_the_one_that_needs_no_model(tmp_path):
    with pytest.raises(UserError, match="text_encoder './nothing' is not a folder.*`text_encoder: tfidf`"):
        vectors_of("./nothing", tmp_path)


def test_word_counts_give_vectors_of_length_1_that_are_the_same_every_time():
    first = tfidf_vectors([*TEXTS, "..."], width=3)
    assert first.shape == (5, 3)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), [1, 1, 1, 1, 0], atol=1e-6)
    assert np.array_equal(tfidf_vectors([*TEXTS, "..."], width=3), first)
    assert first[0] @ first[3] > 0.9 > 0.1 > abs(first[0] @ first[1])


def test_texts_without_words_are_refused():
    with pytest.raises(UserError, match="no item text contains a word"):
        tfidf_vectors(["...", "!"])
