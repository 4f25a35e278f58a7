"""Recommendations of a run with a retriever are the first items of its full ranking."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.evaluation_stage import FinalTest
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.recommend import Recommender

FULL = {"eval_args": {"mode": "full"}, "metrics": ["MRR"], "rerank_top_k": 6}
LAMP = {"title": "Golden lamp"}


def full_ranking(train, **options):
    """A run and the scores of its own full ranking, by user: item tokens, best first."""
    orders = {}
    whole = FinalTest.ablated

    def noting(self, loader):  # after the test
        model, dataset = self._trainer.model, loader._dataset
        if model.reranking is not None:
            for row in range(len(dataset)):
                rows = dataset[np.array([row])]
                with torch.no_grad():
                    scores = model.full_sort_predict(rows)
                user = str(dataset.field2id_token["user_id"][rows["user_id"][0]])
                orders[user] = [dataset.item_tokens[i] for i in scores.argsort(descending=True).tolist() if i]
        return whole(self, loader)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinalTest, "ablated", noting)
        run = train(**{**FULL, **options, "ablations": True})
    return run, orders


@pytest.fixture(scope="module")
def sasrec(train):
    options = {**FULL, "epochs": 1, "hidden_size": 16, "inner_size": 16, "n_layers": 1}
    return train("SASRec", **options).result["checkpoint"]


@pytest.mark.parametrize(("retriever", "blend"), [("SASRec", 1.0), ("SASRec", 0.4), ("SASRec", None), ("text", 0.5)])
def test_they_are_the_first_of_the_tests_own_order(train, sasrec, retriever, blend):
    run, orders = full_ranking(train, retriever=sasrec if retriever == "SASRec" else retriever, blend=blend)
    recommender = Recommender.load(run.folder)
    assert len(orders) == 12
    for user, order in orders.items():
        found = recommender.recommend(user, 6, with_history=True)
        assert [one.item for one in found.items] == order[:6]
        assert found.scores == pytest.approx(recommender.rank(user, order[:6]).scores, abs=1e-5)
        same = recommender.recommend(run.histories[user], 6, with_history=True)
        assert [one.item for one in same.items] == order[:6]


def test_without_the_history_its_items_leave_room_for_others(train, sasrec):
    run, _ = full_ranking(train, retriever=sasrec, blend=1.0, exclude_seen="yes")
    recommender = Recommender.load(run.folder)
    for user, history in run.histories.items():
        found = recommender.recommend(user, 6)
        assert len(found.items) == 6
        assert not set(found.scores) & set(history)
        assert found.scores == pytest.approx({i: run.scores[user][i] for i in found.scores}, abs=1e-5)


@pytest.fixture(scope="module")
def popular(train):
    return Recommender.load(train(**FULL, retriever="Pop", exclude_seen="yes").folder)


@pytest.mark.slow
def test_another_retriever_is_refused_and_the_same_one_may_move(train, sasrec, home):
    run = train(**FULL, retriever=sasrec)
    copy = shutil.copy(sasrec, home / "moved.pth")
    Recommender.load(run.folder, options={"retriever": str(copy)})
    other = train("SASRec", **{**FULL, "epochs": 1, "hidden_size": 16, "inner_size": 16, "n_layers": 1, "seed": 3})
    for retriever, told in (("text", "is a LLMSeqSim"), (other.result["checkpoint"], "is one of other weights")):
        with pytest.raises(UserError, match=f"re-ranked what a SASRec retrieves, and the retriever given {told}"):
            Recommender.load(run.folder, options={"retriever": retriever})


def test_a_retriever_from_elsewhere_asks_no_hub_and_writes_nowhere_unasked(train, home, monkeypatch):
    monkeypatch.setattr("recbole_llmtrsr.llm.loading.source.hub_fault", pytest.fail)
    saved = torch.load(train("LLMSeqSim", **FULL).result["checkpoint"], weights_only=True)
    file = home / "planted.pth"
    torch.save({**saved, "config": {**saved["config"], "vector_dir": str(home / "elsewhere")}}, file)
    run = train(**FULL, retriever=str(file))
    planted = {"text_encoder": "evil/model", "vector_dir": str(home / "elsewhere")}
    torch.save({**saved, "config": {**saved["config"], **planted}}, file)
    with pytest.raises(UserError, match="was trained with text_encoder 'evil/model', but this run sets 'tfidf'"):
        Recommender.load(run.folder)
    assert not (home / "elsewhere").exists()


def test_more_than_the_retriever_finds_is_refused(popular):
    with pytest.raises(UserError, match=r"k: 7 is more than the 6 items .* \(rerank_top_k\): ask for 6 or fewer"):
        popular.recommend("u3", 7)


@pytest.mark.slow
def test_texts_by_hand_are_read_by_the_language_model_alone(train, sasrec):
    recommender = Recommender.load(full_ranking(train, retriever=sasrec, blend=1.0)[0].folder)
    plain, mixed = recommender.recommend(["i1", "i2"], 6), recommender.recommend(["i1", LAMP, "i2"], 6)
    assert (plain.n_unread, mixed.n_unread) == (0, 1)
    assert set(plain.scores) == set(mixed.scores)
    assert plain.scores != mixed.scores
    with pytest.raises(UserError, match="reads items by their ids, and the history holds none of the catalogue"):
        recommender.recommend([LAMP], 2)


@pytest.mark.slow
def test_a_retriever_that_reads_users_serves_known_users_alone(train):
    bpr = train("BPR", **{**FULL, "epochs": 1, "exclude_seen": "yes"}).result["checkpoint"]
    recommender = Recommender.load(train(**FULL, retriever=bpr, exclude_seen="yes").folder)
    assert len(recommender.recommend("u3", 3).items) == 3
    with pytest.raises(UserError, match="reads 'user_id', which a history given by hand lacks"):
        recommender.recommend(["i1", "i2"], 3)


def test_a_retriever_that_counts_serves_everybody(popular):
    assert len(popular.recommend(["i1", LAMP], 6).items) == 6
    assert popular.recommend(["i1", LAMP], 6).n_unread == 1


def test_where_all_was_chosen_nothing_is_left(popular):
    assert popular.recommend([f"i{n}" for n in range(23)], 3).items == ()
    nearly = popular.recommend([f"i{n}" for n in range(21)], 6)
    assert set(nearly.scores) == {"i21", "i22"}


@pytest.mark.slow
def test_a_retriever_of_the_same_comparison_is_found_again(home, tiny_options):
    options = {**tiny_options, **FULL, "retriever": "SASRec", "epochs": 1, "result_dir": str(home / "pair")}
    _, folder = compare(["SASRec", "LLMTRSR"], "toy", config_dict=options)
    assert len(Recommender.load(folder / "LLMTRSR").recommend("u3", 3).items) == 3
