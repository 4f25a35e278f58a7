"""LLMTRSR: what it scores, what it learns, what it saves."""

import numpy as np
import pytest
import torch
import toy
from recbole.data.interaction import Interaction

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model

TINY = {**toy.TINY, "summary": "none", "eval_args": {"mode": "uni5"}, "state": "ERROR"}
del TINY["train_neg_sample_args"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def built(folder, **options):
    """Config, loaders and model on the data set 'toy' in the folder."""
    model_class = get_model("LLMTRSR")
    config = Config(model_class, "toy", [], {**TINY, "data_path": str(folder), **options})
    torch.manual_seed(0)
    np.random.seed(0)
    dataset = get_dataset(model_class)(config)
    loaders, *_ = make_loaders(config, dataset)
    return config, loaders, model_class(config, loaders[0]._dataset)


@pytest.fixture
def twelve_items(tmp_path):
    texts = {f"i{n}": f"item number {n} of colour {'red' if n % 2 else 'blue'}" for n in range(12)}
    texts["i3"] = "a much longer text than the other items have, so that slots are padded"
    sequences = {f"u{n}": [f"i{(n * 5 + k * 7) % 12}" for k in range(4 + n)] for n in range(6)}
    items = [f"{item}\t{text}" for item, text in texts.items()]
    toy.write_atomic(tmp_path / "data" / "toy", toy.events_of(sequences), items)
    return tmp_path / "data"


def test_full_sort_scores_equal_predict_whatever_the_chunk(twelve_items):
    _, (_, _, test), model = built(twelve_items, max_tokens_per_batch=400)
    rows, history, *_ = next(iter(test))
    n_histories = int(history.max()) + 1
    model.eval()
    with torch.no_grad():
        table = model.full_sort_predict(rows[::6]).view(n_histories, -1)  # the loader lists history by history
        predicted = model.predict(rows)
    assert torch.isneginf(table[:, 0]).all()
    looked_up = table[history, rows["item_id"]]
    torch.testing.assert_close(predicted, looked_up, atol=1e-5, rtol=0)


def test_listwise_loss_is_the_softmax_cross_entropy_of_the_target(twelve_items):
    options = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 3}, "targets_per_prompt": 1}
    _, (train, _, _), model = built(twelve_items, **options)
    rows = next(iter(train))
    model.eval()
    with torch.no_grad():
        loss = model.calculate_loss(rows)
        table = model.predict(rows).view(4, -1).T  # RecBole lists all targets, then each round of negatives
    expected = torch.nn.functional.cross_entropy(table, torch.zeros(len(table), dtype=torch.long))
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)


def test_targets_of_one_prompt_do_not_compete_with_each_other(twelve_items):
    options = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 3}, "targets_per_prompt": 3}
    _, (train, _, _), model = built(twelve_items, **options)
    rows = next(iter(train))
    model.eval()
    with torch.no_grad():
        loss = model.calculate_loss(rows)
        scores = model.predict(rows)
    expected = []
    for history in rows["history_id"].unique():
        own = rows["history_id"] == history
        negatives = scores[own & (rows["label"] == 0)]
        targets = scores[own & (rows["label"] == 1)]
        each = [-torch.log_softmax(torch.cat([target[None], negatives]), dim=0)[0] for target in targets]
        expected.append(torch.stack(each).mean())
    assert max((rows["history_id"] == history)[rows["label"] == 1].sum() for history in rows["history_id"]) == 3
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-5, rtol=0)


def test_a_history_without_negatives_teaches_nothing_and_breaks_nothing(twelve_items):
    _, (train, _, _), model = built(twelve_items, train_neg_sample_args={"distribution": "uniform", "sample_num": 3})
    rows = next(iter(train))
    alone = rows["history_id"] == rows["history_id"][0]
    without = rows[~alone | (rows["label"] == 1)]
    model.calculate_loss(without).backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    n = len(rows["history_id"].unique())
    (model.calculate_loss(rows[~alone]) * (n - 1) / n).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, atol=1e-6, rtol=0)


def test_pointwise_loss_is_the_binary_cross_entropy_of_every_row(twelve_items):
    _, (train, _, _), model = built(twelve_items, objective="pointwise")
    rows = next(iter(train))
    model.eval()
    with torch.no_grad():
        expected = torch.nn.functional.binary_cross_entropy_with_logits(model.predict(rows), rows["label"])
        torch.testing.assert_close(model.calculate_loss(rows), expected, atol=1e-5, rtol=0)


def test_full_loss_is_the_mean_next_token_loss_of_prompt_and_right_answer(twelve_items):
    _, (train, _, _), model = built(twelve_items, objective="pointwise", loss_on="full")
    rows = next(iter(train))[:3]
    model.eval()
    losses = []
    with torch.no_grad():
        loss = model.calculate_loss(rows)
        for history_id, item, label in zip(rows[HISTORY_ID], rows["item_id"], rows["label"]):
            prefix = model.prompts.prefix(int(history_id), "", model._history(int(history_id)))
            answer = model.yes_id if label else model.no_id
            ids = torch.tensor([[*prefix.tolist(), *model.prompts.candidate(int(item)), answer]])
            logits = model.backbone.lm(input_ids=ids).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none"))
    torch.testing.assert_close(loss, torch.cat(losses).mean(), atol=1e-5, rtol=0)


def test_rows_without_a_history_id_are_refused_with_the_remedy(twelve_items):
    _, _, model = built(twelve_items)
    with pytest.raises(UserError, match="history_id: run the model with run_recbole_llmtrsr"):
        model.predict(Interaction({"item_id": torch.tensor([1])}))


def test_a_checkpoint_of_other_weights_is_refused(twelve_items):
    _, _, model = built(twelve_items)
    _, _, wider = built(twelve_items, builtin_hidden_size=32)
    with pytest.raises(UserError, match="the weights in the checkpoint do not match those"):
        wider.load_state_dict(model.state_dict())
