"""HLLM: what its loss compares, and that no position sees what comes after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import toy

from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.data.loaders.train_sequences import TARGETS
from recbole_llmtrsr.model.sequence_recommender import joined
from recbole_llmtrsr.registry import get_dataset, get_model

SMALL = {**toy.SMALL, "targets_per_prompt": 3, "n_shared_negatives": 4, "eval_args": {"mode": "full"}}


def built(make_config, **options):
    config = make_config("HLLM", **{**SMALL, **options})
    (train, _, test), *_ = make_loaders(config, get_dataset(config.model_class)(config))
    torch.manual_seed(3)
    return get_model("HLLM")(config, train._dataset), train, test


def test_rows_hold_targets_in_a_row(make_config):
    _, train, _ = built(make_config)
    tokens, found = train._dataset.field2id_token, {}
    for batch in train:
        for user, history, n, targets in zip(
            *(batch[name].tolist() for name in ("user_id", "item_id_list", "item_length", TARGETS)), strict=True
        ):
            key = tokens["user_id"][user], tuple(str(tokens["item_id"][i]) for i in history[:n])
            found[key] = [str(tokens["item_id"][i]) for i in targets if i]
    assert found == {
        ("six", ("i1",)): ["i2", "i3", "i4"],
        ("ties", ("i9",)): ["i8", "i7"],
        ("unix", ("i2",)): ["i2"],
        ("unix", ("i2", "i2")): ["i3", "i9", "i7"],
        ("thrice", ("i1",)): ["i4"],
        ("twice", ("i2",)): ["i3"],
    }
    assert train.n_targets == sum(map(len, found.values()))


def test_histories_and_targets_are_joined_without_the_last():
    history, targets = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]]), torch.tensor([[7, 8], [9, 0], [1, 2]])
    found = joined(history, torch.tensor([3, 1, 2]), targets, torch.tensor([2, 1, 2]))
    assert found.tolist() == [[1, 2, 3, 7], [4, 0, 0, 0], [5, 6, 1, 0]]


def test_the_loss_is_infonce_of_every_target_after_all_before_it(make_config, monkeypatch):
    model, train, _ = built(make_config)
    model.eval()
    rows = next(iter(train))
    drawn = torch.tensor([1, 2, 9, 9])
    monkeypatch.setattr(torch, "randint", lambda *given, **named: drawn)
    with torch.no_grad():
        loss = model.calculate_loss(rows)
        vectors = model.items(torch.arange(model.n_items))
        rivals = sorted({*rows[TARGETS].flatten().tolist(), *drawn.tolist()} - {0})
        expected = []
        for history, n, targets in zip(rows["item_id_list"], rows["item_length"], rows[TARGETS], strict=True):
            past = history[:n].tolist()
            for target in targets[targets > 0].tolist():
                states = model.user.decoder(inputs_embeds=model.entry(4 * vectors[past])[None]).last_hidden_state
                said = F.normalize(states[0, -1], dim=0)
                logits = vectors[rivals] @ said / 0.05
                expected.append(-torch.log_softmax(logits, 0)[rivals.index(target)])
                past.append(target)
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-4, rtol=0)


def test_the_summary_is_read_first(make_config):
    model, _, test = built(make_config, summary="hierarchical")
    rows = next(iter(test))[0]
    model.eval()
    with torch.no_grad():
        model._summary = lambda history_id: "red"
        red = model.full_sort_predict(rows)
        model._summary = lambda history_id: "blue kettle"
        assert not torch.allclose(model.full_sort_predict(rows), red)


def test_item_vectors_follow_the_weights(make_config):
    model, _, test = built(make_config)
    rows = next(iter(test))[0]
    with torch.no_grad():
        before = model.eval().full_sort_predict(rows)
        assert torch.equal(model.full_sort_predict(rows), before)
        model.train()
        for weight in model.backbone.parameters():
            weight += 0.3 * torch.randn_like(weight)
        assert not torch.allclose(model.eval().full_sort_predict(rows), before)
