from __future__ import annotations

import numpy as np
import pytest
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.utils import init_seed

from recbole_llmtrsr.data.candidates import CandidateSet
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders import CandidateEvalDataLoader, make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset


def loaders(config):
    init_seed(config["seed"], True)
    return make_loaders(config, get_dataset(config.model_class)(config))


def test_every_model_is_shown_the_same_candidates(make_config):
    digests = {
        model: {split: drawn.digest for split, drawn in loaders(make_config(model))[1].items()}
        for model in ("LLMTRSR", "SASRec", "GRU4Rec", "BPR", "Pop")
    }
    assert set(digests["LLMTRSR"]) == {"valid", "test"}
    assert digests["LLMTRSR"]["valid"] != digests["LLMTRSR"]["test"]
    assert all(own == digests["LLMTRSR"] for own in digests.values())


def test_a_batch_is_all_targets_then_each_round_of_negatives(make_config):
    config = make_config("SASRec")
    part = get_dataset(config.model_class)(config).build()[2]
    ids = np.sort(part.inter_feat[HISTORY_ID].numpy())
    negatives = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
    loader = CandidateEvalDataLoader(config, part, CandidateSet(ids, negatives, ""))
    (rows, history, targets_of, targets), *more = list(loader)
    assert not more
    by_id = dict(zip(ids.tolist(), negatives.tolist(), strict=True))
    order = rows[HISTORY_ID][:4].tolist()
    assert sorted(order) == ids.tolist()
    assert rows["item_id"].tolist() == [
        *targets.tolist(),
        *(by_id[i][0] for i in order),
        *(by_id[i][1] for i in order),
    ]
    assert rows[HISTORY_ID].tolist() == order * 3
    assert rows["label"].tolist() == [1.0] * 4 + [0.0] * 8
    assert history.tolist() == [0, 1, 2, 3] * 3
    assert targets_of.tolist() == [0, 1, 2, 3]
    assert (rows["item_length"][:4] == rows["item_length"][4:8]).all()


@pytest.mark.parametrize(("batch_size", "histories"), [(1, 1), (3, 1), (7, 2), (12, 4), (1000, 4)])
def test_a_batch_holds_whole_histories_and_at_least_one(make_config, batch_size, histories):
    config = make_config("SASRec", eval_batch_size=batch_size)
    test = loaders(config)[0][2]
    sizes = [len(targets) for _, _, _, targets in test]
    assert max(sizes) == histories
    assert sum(sizes) == 4


def test_epoch_after_epoch_shows_the_same_candidates(make_config):
    (_, _, test), _ = loaders(make_config("BPR"))
    first = [rows["item_id"].tolist() for rows, *_ in test]
    np.random.seed(99)
    assert [rows["item_id"].tolist() for rows, *_ in test] == first


def test_full_ranking_draws_no_candidates(make_config):
    (_, valid, test), candidates = loaders(make_config("SASRec", eval_args={"mode": {"valid": "uni2", "test": "full"}}))
    assert isinstance(valid, CandidateEvalDataLoader)
    assert isinstance(test, FullSortEvalDataLoader)
    assert set(candidates) == {"valid"}


@pytest.mark.parametrize(("split", "empty"), [("test_only", 1), ("valid_only", 2)])
def test_a_split_without_rows_has_an_empty_loader(make_config, split, empty):
    made, candidates = loaders(make_config("SASRec", eval_args={"split": {"LS": split}}))
    assert [len(list(loader)) > 0 for loader in made] == [True, empty != 1, empty != 2]
    assert len(candidates[("valid", "test")[empty - 1]].items) == 0


def test_nothing_to_train_on_is_told_with_the_split(make_config, atomic_folder):
    (atomic_folder / "tiny" / "tiny.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\na\ti1\t1\nb\ti2\t1\nc\ti3\t1\n"
    )
    with pytest.raises(UserError, match=r"'tiny' leaves no row to train on after the split \{'LS': 'valid_and_test'\}"):
        loaders(make_config("LLMTRSR"))
