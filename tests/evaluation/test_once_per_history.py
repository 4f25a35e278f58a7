"""Candidates scored a history at a time have the scores that they have row by row."""

from __future__ import annotations

import logging

import pandas as pd
import pytest
import torch
import toy
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.evaluation.once_per_history import FEWEST_HISTORIES, OncePerHistory, scoring_once_per_history
from recbole_llmtrsr.quick_start import compare

SMALL = {**toy.SMALL, "LLMTRSR.train_neg_sample_args": {"distribution": "uniform", "sample_num": 2}}
# Histories 7, 3 and 5, whose rows do not stand together, with candidates among 4 items.
ROWS = Interaction({HISTORY_ID: torch.tensor([7, 3, 7, 5, 3, 7]), "item_id": torch.tensor([1, 3, 2, 2, 0, 3])})
SCORES = torch.tensor([[0.0, 0.1, 0.2, 0.3], [1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3]])  # of histories 3, 5 and 7


class Asked:
    """A model that knows SCORES, and how many rows it was asked."""

    def __init__(self, error: float = 0.0) -> None:
        self.n_rows, self.n_histories, self.error = 0, 0, error

    def by_row(self, rows: Interaction) -> torch.Tensor:
        self.n_rows += len(rows)
        return SCORES[(rows[HISTORY_ID] - 3) // 2, rows["item_id"]]

    def by_history(self, rows: Interaction) -> torch.Tensor:
        self.n_histories += len(rows)
        return (SCORES[(rows[HISTORY_ID] - 3) // 2] * (1 + self.error)).view(-1)


EXPECTED = torch.tensor([2.1, 0.3, 2.2, 1.2, 0.0, 2.3])


@pytest.mark.parametrize("at_once", [16, 17, 100])
def test_each_history_is_read_once_and_one_row_of_it_looked_at(at_once):
    asked = Asked(error=1e-7)
    predict = OncePerHistory(asked.by_row, asked.by_history, "item_id", at_once)
    for n in (1, 2):
        assert torch.allclose(predict(ROWS), EXPECTED)
        assert (asked.n_rows, asked.n_histories) == (3 * n, FEWEST_HISTORIES * n)  # 3, and others to fill up


def test_histories_are_read_some_at_a_time():
    many = Interaction({HISTORY_ID: torch.arange(100).repeat(2) % 3 * 2 + 3 + torch.arange(100).repeat(2) // 3 * 6})
    many.update(Interaction({"item_id": torch.arange(200) % 4}))
    sizes = []

    def by_history(rows: Interaction) -> torch.Tensor:
        sizes.append(len(rows))
        return rows[HISTORY_ID][:, None] + torch.arange(4.0)

    predict = OncePerHistory(lambda rows: rows[HISTORY_ID] + rows["item_id"].float(), by_history, "item_id", 30)
    assert torch.equal(predict(many), many[HISTORY_ID] + many["item_id"].float())
    assert sizes == [30, 30, 30, 16]


def test_a_model_whose_scores_differ_in_a_later_batch_is_asked_row_by_row_from_then_on(caplog):
    asked = Asked()
    predict = OncePerHistory(asked.by_row, asked.by_history, "item_id", 100)
    predict(ROWS)
    asked.error = 1e-3
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert torch.equal(predict(ROWS), EXPECTED)
    assert asked.n_histories == 2 * FEWEST_HISTORIES
    assert (
        caplog.text.count(
            "candidates row by row: scores of full ranking differ by 0.001, relative to the largest score"
        )
        == 1
    )
    resumed = OncePerHistory(asked.by_row, asked.by_history, "item_id", 100)
    resumed.restore(predict.state())
    assert torch.equal(resumed(ROWS), EXPECTED)
    assert asked.n_histories == 2 * FEWEST_HISTORIES


def test_a_difference_at_some_candidates_alone_is_found():
    asked = Asked()

    def by_row(rows: Interaction) -> torch.Tensor:  # history 3 has item 3 first, then item 0
        return asked.by_row(rows) - 5.0 * ((rows[HISTORY_ID] == 3) & (rows["item_id"] == 0))

    predict = OncePerHistory(by_row, asked.by_history, "item_id", 100)
    assert torch.equal(predict(ROWS), by_row(ROWS))
    assert predict.state()["is_same"] is False


def test_a_model_that_cannot_score_all_items_is_asked_row_by_row(caplog):
    def none(rows: Interaction) -> torch.Tensor:
        raise NotImplementedError

    with caplog.at_level(logging.INFO):
        assert torch.equal(OncePerHistory(Asked().by_row, none, "item_id", 100)(ROWS), EXPECTED)
    assert "the model scores candidates row by row: NotImplementedError" in caplog.text


class OneAtATime(SequentialRecommender):
    def __init__(self, n_items: int = 9, encoder: torch.nn.Module | None = None) -> None:
        torch.nn.Module.__init__(self)
        self.n_items, self.ITEM_ID = n_items, "item_id"
        self.table, self.encoder = torch.nn.Embedding(9, 2), encoder or torch.nn.Linear(2, 2)

    def predict(self, interaction: Interaction) -> torch.Tensor:
        raise AssertionError


class AllAtOnce(OneAtATime):
    def predict(self, interaction: Interaction) -> torch.Tensor:
        raise AssertionError

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        raise AssertionError


class OtherPredict(AllAtOnce):
    def predict(self, interaction: Interaction) -> torch.Tensor:
        raise AssertionError


class OfUsers(GeneralRecommender):
    n_items, ITEM_ID = 9, "item_id"
    __init__, predict, full_sort_predict = OneAtATime.__init__, AllAtOnce.predict, AllAtOnce.full_sort_predict


@pytest.mark.parametrize(
    ("host", "made_of", "is_once"),
    [
        (AllAtOnce, {}, True),
        (AllAtOnce, {"encoder": torch.nn.GRU(2, 2)}, True),
        (AllAtOnce, {"encoder": torch.nn.Embedding(3, 2)}, False),
        (AllAtOnce, {"n_items": 2**18}, True),
        (AllAtOnce, {"n_items": 2**18 + 1}, False),
        (OneAtATime, {}, False),
        (OtherPredict, {}, False),
        (OfUsers, {}, False),
    ],
)
def test_models_score_once_that_read_histories_and_can_score_all_items_of_several_at_once(host, made_of, is_once):
    model = scoring_once_per_history(host)(**made_of)
    assert isinstance(getattr(model, "once_per_history", None), OncePerHistory) == is_once
    assert isinstance(model, host)
    assert type(model).__name__ == host.__name__


def ranks(model: str, folder: str) -> pd.DataFrame:
    data = {"data_path": "data", "dataset": "tiny", "result_dir": folder, "metrics": ["MRR"], "valid_metric": "MRR@3"}
    how = {"use_gpu": False, "show_progress": False, "epochs": 2, "topk": [3], "eval_args": {"mode": "uni3"}}
    compare([model], "tiny", config_dict={**data, **how, **SMALL, "candidate_exclusion": "target"})
    return pd.read_csv(f"{folder}/per_history.csv")


# SHAN reads other columns where it scores all items.
@pytest.mark.parametrize(
    ("model", "is_same"), [("SASRec", True), ("GRU4Rec", True), ("NARM", True), ("BERT4Rec", True), ("SHAN", False)]
)
def test_recboles_models_have_the_results_of_row_by_row(model, is_same, make_config, monkeypatch):
    wrapped: list[OncePerHistory] = []
    with monkeypatch.context() as patch:
        call = OncePerHistory.__call__
        patch.setattr(OncePerHistory, "__call__", lambda self, rows: wrapped.append(self) or call(self, rows))
        once = ranks(model, "once")
    assert len(wrapped) == 3  # two validations and the test, a batch each
    assert wrapped[-1].state()["is_same"] is is_same
    monkeypatch.setattr("recbole_llmtrsr.experiment.fit.scoring_once_per_history", lambda host: host)
    pd.testing.assert_frame_equal(ranks(model, "by-row"), once)


def test_language_models_are_not_wrapped(make_config, monkeypatch):
    wrapped: list[object] = []
    monkeypatch.setattr(
        "recbole_llmtrsr.experiment.fit.scoring_once_per_history", lambda host: wrapped.append(host) or host
    )
    for name, n in {"LLMTRSR": 0, "LiteLLM4Rec": 0, "SASRec": 1}.items():
        ranks(name, name)
        assert len(wrapped) == n
