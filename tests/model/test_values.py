"""Labels instead of rankings: P(yes) against 0 and 1, and ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.model.values import Values
from recbole_llmtrsr.quick_start import compare

TINY = {
    "data_path": "data",
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
    "epochs": 8,
    "learning_rate": 0.01,
    "summary": "none",
    "n_recent_items": 3,
    "item_text_fields": ["title"],
    "eval_args": {"mode": "labeled"},
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    "train_neg_sample_args": None,
    **toy.SMALL,
    "train_batch_size": 40,
    "result_dir": "out",
}
AUC = {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "threshold": {"rating": 3}, "objective": "pointwise"}
RMSE = {"metrics": ["RMSE", "MAE"], "valid_metric": "RMSE", "LABEL_FIELD": "rating", "objective": "regression"}


@pytest.fixture(autouse=True)
def rated_by_colour(tmp_path, monkeypatch):
    """Red items are rated 5, blue ones 2, whoever rates them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    write(
        f"u{user}\ti{item}\t{time}\t{5 if item % 2 else 2}"
        for user in range(60)
        for time, item in enumerate(rng.permutation(20)[:8])
    )


def write(events):
    items = [f"i{n}\t{'red' if n % 2 else 'blue'} thing" for n in range(20)]
    toy.write_atomic(Path("data/toy"), events, items, of_events="\trating:float")


def run(**options):
    (result,), _ = compare(["LLMTRSR"], "toy", config_dict={**TINY, **options})
    return result["test_result"]


@pytest.mark.parametrize("n", [1, 3])
def test_labels_are_learned_and_predicted_as_probabilities(n):
    found = run(**AUC, targets_per_prompt=n, train_batch_size=40 // n)
    assert found["auc"] == 1.0
    assert found["logloss"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3])
def test_ratings_are_learned_on_their_own_scale(n):
    found = run(**RMSE, targets_per_prompt=n, train_batch_size=40 // n)
    assert found["rmse"] < 0.3
    assert found["mae"] < 0.3


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_range_is_that_of_all_ratings_whatever_the_groups(n):
    ratings = [3, 3, 1, 5, 3, 3, 3, 3]  # the range is reached in one place of each history alone
    write(f"u{user}\ti{(user + time) % 20}\t{time}\t{ratings[time]}" for user in range(12) for time in range(8))
    config = Config(LLMTRSR, "toy", [], {**TINY, **RMSE, "targets_per_prompt": n})
    train = make_loaders(config, LLMTRSRDataset(config))[0][0]
    assert Values.of(config, train._dataset) == Values((1.0, 5.0))


def test_parts_of_a_batch_add_up_to_its_loss():
    config = Config(LLMTRSR, "toy", [], {**TINY, **RMSE, "targets_per_prompt": 3, "max_tokens_per_batch": 60})
    torch.manual_seed(0)
    train = make_loaders(config, LLMTRSRDataset(config))[0][0]
    model = LLMTRSR(config, train._dataset).eval()
    rows = next(iter(train))
    parts = model.micro_batches(rows)
    assert len(parts) > 2
    whole, added = model.calculate_loss(rows), sum(model.calculate_loss(part) * share for part, share in parts)
    torch.testing.assert_close(added, whole)


def test_values_span_the_ratings():
    values = Values((1.0, 5.0))(torch.tensor([-50.0, 0.0, 50.0]))
    torch.testing.assert_close(values, torch.tensor([1.0, 3.0, 5.0]))
    assert torch.equal(Values(None)(torch.tensor([-7.0, 3.0])), torch.tensor([-7.0, 3.0]))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            {**AUC, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 2}},
            "set train_neg_sample_args: ~",
        ),
        ({**AUC, "objective": "listwise"}, "set objective: pointwise for labels of 0 and 1, or regression"),
        (
            {**AUC, "threshold": None, "LABEL_FIELD": "rating"},
            "go from 2 to 5, but objective: pointwise accepts only 0",
        ),
        ({"objective": "regression", "eval_args": {"mode": "uni2"}}, "predicts labels, but metrics"),
        ({**RMSE, "eval_args": {"mode": "uni2"}}, "with eval_args mode uni2, rows are targets and negatives"),
        ({**AUC, "eval_args": {"mode": {"valid": "labeled", "test": "uni2"}}}, "set eval_args: {mode: labeled}"),
        ({**RMSE, "loss_on": "full"}, "cannot predict ratings: set objective: pointwise"),
    ],
)
def test_what_has_no_labels_to_learn_is_refused(options, part):
    with pytest.raises(UserError) as refused:
        run(**options)
    assert part in str(refused.value)


def test_ratings_that_are_all_the_same_are_refused():
    file = Path("data/toy/toy.inter")
    file.write_text(file.read_text().replace("\t5\n", "\t2\n"))
    with pytest.raises(UserError, match=r"all 300 labels of the training split are 2: .* LABEL_FIELD \(now rating\)"):
        run(**RMSE)
