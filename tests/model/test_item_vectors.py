"""Text vectors by item id, and as first weights of item embeddings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.item_vectors import initialise_items, item_vectors, principal_components
from recbole_llmtrsr.registry import get_dataset, get_model


def train_of(config):
    return make_loaders(config, get_dataset(config.model_class)(config))[0][0]._dataset


@pytest.mark.parametrize("model", ["SASRec", "LLMTRSR"])
def test_vectors_stand_by_item_id_whatever_the_model(make_config, model):
    config = make_config(model, item_text_fields=["title"])
    train = train_of(config)
    table = item_vectors(config, train, "text_encoder")
    ids = {token: i for i, token in enumerate(train.field2id_token["item_id"])}
    assert table.shape[0] == train.item_num == 10
    assert table[0].abs().sum() == 0
    torch.testing.assert_close(table[1:].norm(dim=1), torch.ones(9))
    # 'Red "Star" kettle' and 'Blue kettle' share a word, 'Oak chair' shares none with them.
    kettles, chair = (table[ids["i1"]], table[ids["i2"]]), table[ids["i9"]]
    assert kettles[0] @ kettles[1] > 0.15 > 1e-4 > abs(kettles[0] @ chair)


def test_items_without_text_have_no_vector(make_config):
    config = make_config("SASRec", item_text_fields=["maker"])
    train = train_of(config)
    table = item_vectors(config, train, "text_encoder")
    ids = {token: i for i, token in enumerate(train.field2id_token["item_id"])}
    assert [token for token, i in ids.items() if table[i].abs().sum() == 0] == ["[PAD]", "i4"]


def model_of(n_rows=8, width=3, seed=1):
    torch.manual_seed(seed)
    model = SimpleNamespace(item_embedding=nn.Embedding(n_rows, width, padding_idx=0))
    nn.init.normal_(model.item_embedding.weight, std=0.02)
    return model


def test_embeddings_begin_with_components_at_the_models_own_scale():
    torch.manual_seed(2)
    vectors = torch.randn(7, 5)
    vectors[0] = vectors[4] = 0  # the padding, and an item without text
    model = model_of()
    before = model.item_embedding.weight.detach().clone()
    initialise_items(model, vectors, frozen=False)
    after = model.item_embedding.weight.detach()
    kept, begun = [0, 4, 7], [1, 2, 3, 5, 6]  # 7 is a mask, beyond the items
    assert torch.equal(after[kept], before[kept])
    torch.testing.assert_close(after[begun].std(), before[begun].std())
    expected = principal_components(vectors[begun], 3)
    torch.testing.assert_close(after[begun] / after[begun].std(), expected / expected.std())
    assert model.item_embedding.weight.requires_grad


def test_columns_beyond_the_vectors_keep_what_they_have():
    model, vectors = model_of(width=4), torch.randn(8, 2, generator=torch.Generator().manual_seed(3))
    before = model.item_embedding.weight.detach().clone()
    initialise_items(model, vectors, frozen=True)
    assert torch.equal(model.item_embedding.weight[:, 2:], before[:, 2:])
    assert not torch.equal(model.item_embedding.weight[:, :2], before[:, :2])
    assert not model.item_embedding.weight.requires_grad


def test_components_are_those_of_a_singular_value_decomposition():
    vectors = torch.randn(20, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    centred = (vectors - vectors.mean(0)).numpy()
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    found = principal_components(vectors.float(), 4).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(left[:, :4] * values[:4]), atol=1e-5)
    assert principal_components(vectors.float(), 9).shape == (20, 6)


def test_a_model_without_item_embedding_is_refused(make_config):
    config = make_config("Pop")
    model = get_model("Pop")(config, train_of(config))
    with pytest.raises(UserError, match=r"Pop has no item_embedding.*such as SASRec.text_init"):
        initialise_items(model, torch.ones(10, 3), frozen=False)


@pytest.mark.parametrize("has_text", [[0, 1, 1, 1], [0, 1, 0, 0]])
def test_texts_that_do_not_differ_are_refused(has_text):
    with pytest.raises(UserError, match=f"the texts of all {sum(has_text)} items are equal"):
        initialise_items(model_of(4), torch.tensor(has_text)[:, None] * torch.ones(4, 3), frozen=False)


def test_components_of_a_large_table_are_those_of_its_parts_together(monkeypatch):
    vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(5))
    whole = principal_components(vectors, 3)
    monkeypatch.setattr("recbole_llmtrsr.model.item_vectors._ROWS_AT_ONCE", 7)
    torch.testing.assert_close(principal_components(vectors, 3), whole)
