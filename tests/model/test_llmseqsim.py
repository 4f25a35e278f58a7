"""LLMSeqSim: the cosine with the mean of the recent items' vectors."""

from __future__ import annotations

import torch

from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.registry import get_dataset, get_model


def built(make_config, **options):
    config = make_config("LLMSeqSim", eval_args={"mode": "full"}, **options)
    _, _, test = make_loaders(config, get_dataset(config.model_class)(config))[0]
    return get_model("LLMSeqSim")(config, test._dataset), next(iter(test))[0]


def test_scores_are_cosines_with_the_mean_of_the_recent_vectors(make_config):
    model, rows = built(make_config, n_recent_items=2)
    found = model.full_sort_predict(rows).view(len(rows), -1)
    for row in range(len(rows)):
        n = int(rows["item_length"][row])
        recent = rows["item_id_list"][row, max(0, n - 2) : n]
        taste = model.vectors[recent].mean(0)
        expected = torch.cosine_similarity(taste[None], model.vectors, dim=1)
        torch.testing.assert_close(found[row, 1:], expected[1:])
        assert found[row, 0] == -1  # the padding has no text
    assert max(rows["item_length"]) > 2


def test_predict_equals_full_ranking(make_config):
    model, rows = built(make_config)
    full = model.full_sort_predict(rows).view(len(rows), -1)
    torch.testing.assert_close(model.predict(rows), full[torch.arange(len(rows)), rows["item_id"]])


def test_a_checkpoint_holds_no_vectors(make_config):
    model, _ = built(make_config)
    assert list(model.state_dict()) == ["nothing"]


def test_items_without_text_score_least(make_config):
    model, rows = built(make_config, item_text_fields=["maker"])
    found = model.full_sort_predict(rows).view(len(rows), -1)
    assert (found[:, ~model.has_text] == -1).all()
    assert int((~model.has_text).sum()) == 2
    assert (found[:, model.has_text] > -1).all()
