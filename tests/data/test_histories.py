from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
import toy
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.utils import init_seed

from recbole_llmtrsr.data.dataset import load_dataset
from recbole_llmtrsr.data.histories import HISTORY_ID, Histories, with_history_ids
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset

SPLITS = {
    "leave one out": {"split": {"LS": "valid_and_test"}},
    "valid only": {"split": {"LS": "valid_only"}},
    "test only": {"split": {"LS": "test_only"}},
    "ratio by user": {"split": {"RS": [0.5, 0.25, 0.25]}, "group_by": "user"},
    "ratio": {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "none"},
    "time": {"split": {"TS": [0.4, 0.2, 0.4]}},
    "random": {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "none", "order": "RO"},
}


def built(config: Any) -> list[Any]:
    dataset = get_dataset(config.model_class)(config)
    init_seed(config["seed"], True)
    return list(dataset.build())


def seen(part: Any) -> list[tuple[str, str, int, list[str]]]:
    """(user, target, history id, history) of every row, in words."""
    items = part.field2id_token["item_id"]
    return [
        (str(part.field2id_token["user_id"][user]), str(items[item]), i, [str(t) for t in items[part.histories[i]]])
        for user, item, i in zip(
            part.inter_feat["user_id"], part.inter_feat["item_id"], part.inter_feat[HISTORY_ID].tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("eval_args", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("model", ["SASRec", "Pop", "BPR"])
def test_every_model_meets_the_same_rows_in_every_split(make_config, model, eval_args):
    ours = [seen(part) for part in built(make_config("LLMTRSR", eval_args=eval_args))]
    theirs = [seen(part) for part in built(make_config(model, eval_args=eval_args))]
    firsts = [row for row in theirs[0] if not row[3]]
    assert [row for row in theirs[0] if row[3]] == ours[0]
    assert theirs[1:] == ours[1:]
    is_per_user = "LS" in eval_args["split"] or eval_args.get("group_by") == "user"
    training = {"once", "six", "thrice", "ties", "twice", "unix"} if is_per_user else {row[0] for row in ours[0]}
    assert sorted(row[0] for row in firsts) == ([] if model == "SASRec" else sorted(training))


@pytest.mark.parametrize("eval_args", [*SPLITS.values(), {"split": {"US": [2, 1, 1]}}], ids=[*SPLITS, "split by user"])
@pytest.mark.parametrize("model", ["LLMTRSR", "Pop"])
def test_popularity_counts_the_events_that_pop_trains_on(make_config, model, eval_args):
    train = built(make_config("Pop", eval_args=eval_args))[0]
    trained = np.bincount(train.inter_feat["item_id"].numpy(), minlength=train.item_num)
    assert built(make_config(model, eval_args=eval_args))[2].popularity.tolist() == trained.tolist()


@pytest.mark.parametrize("eval_args", [{"split": {"TS": [0.4, 0.2, 0.4]}}, {"split": {"RS": [0.5, 0.2, 0.3]}}])
def test_no_event_of_the_future_is_trained_on(make_config, eval_args):
    """All events of 'unix' are later than those of the others."""
    train, _, test = built(make_config("Pop", eval_args={"group_by": "none", **eval_args}))
    assert "unix" in {row[0] for row in seen(test)}
    assert "unix" not in {row[0] for row in seen(train)}
    assert train.inter_feat["timestamp"].max() < test.inter_feat["timestamp"].min()


def test_general_models_train_on_the_first_event_too(make_config):
    train = built(make_config("Pop"))[0]
    firsts = [(user, target) for user, target, _, history in seen(train) if not history]
    expected = {"once": "i1", "twice": "i2", "thrice": "i1", "six": "i1", "ties": "i9", "unix": "i2"}
    assert sorted(firsts) == sorted(expected.items())
    assert len(train.inter_feat) == 6 + 11


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_pre_split_files_give_every_model_the_same_rows(make_config, atomic_folder, model):
    parts = {"train": "a i1 i2\na i3 i2,i1", "valid": "b i2 ", "test": "a i4 i2,i1,i3"}
    options = toy.write_pre_split(atomic_folder / "tiny", parts)
    assert [seen(part) for part in built(make_config(model, **options))] == [
        [("a", "i1", 0, ["i2"]), ("a", "i3", 1, ["i2", "i1"])],
        [("b", "i2", 2, [])],
        [("a", "i4", 3, ["i2", "i1", "i3"])],
    ]


def test_popularity_of_pre_split_files_counts_each_row_once(make_config, atomic_folder):
    parts = {"train": "a i1 i2", "valid": "a i3 i2,i1", "test": "a i3 i2,i1,i3"}
    options = toy.write_pre_split(atomic_folder / "tiny", parts)
    part = built(make_config("Pop", **options))[2]
    assert [str(part.field2id_token["item_id"][i]) for i in part.histories.events] == ["i1", "i3", "i3"]


def test_the_rows_are_those_recbole_makes_where_float32_can_tell_the_times(make_config, atomic_folder):
    path = atomic_folder / "tiny" / "tiny.inter"
    path.write_text(path.read_text().replace("160000000", ""))
    config = make_config("SASRec", eval_args={"split": {"LS": "valid_and_test"}})
    theirs, ours = SequentialDataset(config).build(), built(config)
    for their, our in zip(theirs, ours, strict=True):
        assert their.inter_feat.columns == [c for c in our.inter_feat.columns if c != HISTORY_ID]
        for column in their.inter_feat.columns:
            assert torch.equal(their.inter_feat[column], our.inter_feat[column])


def test_a_history_id_stands_for_one_history():
    histories = Histories(
        items=np.array([5, 6, 7]), begin=np.array([0, 0, 2]), end=np.array([1, 2, 2]), events=np.array([5, 6, 7])
    )
    assert len(histories) == 3
    assert [histories[i].tolist() for i in range(3)] == [[5], [5, 6], []]


@pytest.mark.parametrize("base", [Dataset, SequentialDataset])
def test_the_class_of_a_base_is_made_once_and_can_be_pickled(base):
    made = with_history_ids(base)
    assert issubclass(made, base)
    assert with_history_ids(base) is made
    assert pickle.loads(pickle.dumps(made)) is made


def test_events_without_a_row_in_the_item_file_are_counted_and_nearly_all_are_refused(
    make_config, atomic_folder, caplog
):
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "price"]}
    path = atomic_folder / "tiny" / "tiny.item"
    text = path.read_text()
    path.write_text(text.replace("\ni1\t", "\nI1\t"))
    config = make_config("GRU4Rec", load_col=columns)
    load_dataset(get_dataset(config.model_class), config)
    assert (
        "4 of 24 events are of users or items without a row in the .user or .item file and are left out" in caplog.text
    )
    path.write_text(text.replace("\ni", "\nI"))
    with pytest.raises(UserError, match=r"24 of 24 events .*: complete the file, remove it from load_col"):
        load_dataset(get_dataset(config.model_class), config)
