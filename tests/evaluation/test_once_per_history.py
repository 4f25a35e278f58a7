"""Candidates scored a history at a time have the scores that they have row by row."""

from __future__ import annotations

import logging

import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.evaluation.once_per_history import OncePerHistory
from recbole_llmtrsr.quick_start import compare

# Histories 7, 3 and 5, whose rows do not stand together, with candidates among 4 items.
ROWS = Interaction(
    {HISTORY_ID: torch.tensor([7, 3, 7, 5, 3, 7]), "item_id": torch.tensor([1, 3, 2, 2, 0, 3]), "n": torch.arange(6)}
)
SCORES = torch.tensor([[0.0, 0.1, 0.2, 0.3], [1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3]])  # of histories 3, 5 and 7


class Asked:
    """A model that knows SCORES, and how many rows it was asked."""

    def __init__(self, error: float = 0.0) -> None:
        self.n_rows, self.n_histories, self._error = 0, 0, error

    def by_row(self, rows: Interaction) -> torch.Tensor:
        self.n_rows += len(rows)
        return SCORES[(rows[HISTORY_ID] - 3) // 2, rows["item_id"]]

    def by_history(self, rows: Interaction) -> torch.Tensor:
        self.n_histories += len(rows)
        return (SCORES[(rows[HISTORY_ID] - 3) // 2] * (1 + self._error)).view(-1)


def test_each_history_is_read_once_after_the_first_look():
    asked = Asked(error=1e-7)
    predict = OncePerHistory(asked.by_row, asked.by_history, "item_id")
    expected = torch.tensor([2.1, 0.3, 2.2, 1.2, 0.0, 2.3])
    for n_histories in (6, 9):  # the first look is one more
        assert torch.allclose(predict(ROWS), expected)
        assert (asked.n_rows, asked.n_histories) == (6, n_histories)


def test_other_scores_of_all_items_are_not_used(caplog):
    asked = Asked(error=1e-3)
    predict = OncePerHistory(asked.by_row, asked.by_history, "item_id")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(predict(ROWS), torch.tensor([2.1, 0.3, 2.2, 1.2, 0.0, 2.3]))
    assert asked.n_histories == 3
    assert caplog.text.count("scored row by row") == 1
    assert "differ by 0.0023" in caplog.text


def test_a_model_without_scores_of_all_items_is_asked_row_by_row(caplog):
    def none(rows: Interaction) -> torch.Tensor:
        raise NotImplementedError

    asked = Asked()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(OncePerHistory(asked.by_row, none, "item_id")(ROWS), asked.by_row(ROWS))
    assert "NotImplementedError" in caplog.text


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "NARM", "BERT4Rec", "FPMC"])
def test_recboles_models_have_the_results_of_row_by_row(model, make_config, monkeypatch, caplog):
    predicts: list[object] = []

    def ranks(name: str) -> pd.DataFrame:
        data = {"data_path": "data", "dataset": "tiny", "result_dir": name, "metrics": ["MRR"], "valid_metric": "MRR@3"}
        how = {"use_gpu": False, "show_progress": False, "epochs": 2, "topk": [3], "eval_args": {"mode": "uni3"}}
        compare([model], "tiny", config_dict={**data, **how, "candidate_exclusion": "target"})
        return pd.read_csv(f"{name}/per_history.csv")

    with caplog.at_level(logging.WARNING):
        once = ranks("once")
    assert "row by row" not in caplog.text
    monkeypatch.setattr("recbole_llmtrsr.training.score_once_per_history", predicts.append)
    pd.testing.assert_frame_equal(ranks("by-row"), once)
    assert len(predicts) == 1
