"""Vectors of item texts by a language model."""

from __future__ import annotations

import pytest
import torch

from recbole_llmtrsr.llm.builtin import build_builtin
from recbole_llmtrsr.model.item_encoder import ItemEncoder

TEXTS = ["none", "red kettle", "a blue lamp of glass", "desk", "desk", "an oak chair with a red seat"]


@pytest.fixture
def encoder():
    backbone = build_builtin(TEXTS, hidden_size=16, n_layers=2, n_heads=2, vocab_size=300, max_positions=64, seed=1)
    return ItemEncoder(backbone, TEXTS, max_tokens=32).eval()


def test_a_vector_is_the_mean_of_the_texts_states(encoder):
    found = encoder(torch.tensor([5, 3, 2]))
    for vector, text in zip(found, [TEXTS[5], TEXTS[3], TEXTS[2]], strict=True):
        ids = torch.tensor([encoder.backbone.tokenizer(text)["input_ids"]])
        mean = encoder.backbone.decoder(input_ids=ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm())


def test_the_table_holds_the_vectors_of_all_items_and_zeros_for_the_padding(encoder):
    table = encoder.table(max_tokens=12)
    torch.testing.assert_close(table[1:], encoder(torch.arange(1, 6)).detach())
    assert table[0].abs().sum() == 0
    torch.testing.assert_close(table[3], table[4])


def test_a_table_in_a_file_is_the_same_and_is_kept_by_weights(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_llmtrsr.model.item_encoder._ITEMS_A_PART", 2)
    in_file = encoder.table(max_tokens=12, folder=tmp_path)
    torch.testing.assert_close(in_file, encoder.table(max_tokens=12))
    assert len([*tmp_path.glob("*.npy")]) == 1
    with torch.no_grad():
        next(iter(encoder.backbone.parameters())).add_(1.0)
    assert not torch.allclose(encoder.table(max_tokens=12, folder=tmp_path), in_file)
    assert len([*tmp_path.glob("*.npy")]) == 2


def test_a_table_that_was_stopped_goes_on(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_llmtrsr.model.item_encoder._ITEMS_A_PART", 2)
    whole, calls, original = encoder.table(max_tokens=64), [], ItemEncoder._encoded

    def stopped(self, tokens):
        calls.append(len(tokens))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, tokens)

    monkeypatch.setattr(ItemEncoder, "_encoded", stopped)
    with pytest.raises(KeyboardInterrupt):
        encoder.table(max_tokens=64, folder=tmp_path)
    torch.testing.assert_close(encoder.table(max_tokens=64, folder=tmp_path), whole)
    assert calls == [2, 2, 2, 2]


def test_texts_are_cut_and_counted(encoder):
    short = ItemEncoder(encoder.backbone, TEXTS, max_tokens=2).eval()
    assert short.n_cut == sum(len(encoder.backbone.tokenizer(text)["input_ids"]) > 2 for text in TEXTS)
    assert short(torch.tensor([5])).shape == (1, 16)


def test_gradients_reach_the_language_model(encoder):
    encoder(torch.tensor([1, 2])).square()[:, 0].sum().backward()
    assert all(weight.grad is not None for weight in encoder.backbone.decoder.parameters())
