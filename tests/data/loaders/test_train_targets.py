"""Prompts that are asked about several targets: those that follow in training, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from labelled_rows import labelled

from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.data.loaders.train_targets import TargetTrainDataLoader, grouped
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model

PRE_SPLIT = {"train": "six i2 i1\nsix i4 i1,i2,i3\nunix i3 i2", "valid": "six i5 i1,i2,i3,i4", "test": "twice i3 i2"}
NEGATIVES = {"distribution": "uniform", "sample_num": 2, "dynamic": False}


def loader(make_config, n, **options):
    config = make_config("LLMTRSR", targets_per_prompt=n, train_neg_sample_args=NEGATIVES, **options)
    return make_loaders(config, get_dataset(get_model("LLMTRSR"))(config))[0][0]


def test_a_prompt_is_asked_about_targets_in_a_row_from_the_latest_backwards(make_config):
    train = loader(make_config, 3)
    assert {name: targets for name, (targets, _) in labelled(train, train._dataset).items()} == {
        # Leave-one-out: of six events i1 ... i6 the last two are for validation and test, and the first has no history.
        ("six", 1): ["i2", "i3", "i4"],
        ("ties", 1): ["i8", "i7"],
        ("unix", 1): ["i2"],
        ("unix", 2): ["i3", "i9", "i7"],
        ("thrice", 1): ["i4"],
        ("twice", 1): ["i3"],
    }


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_target_is_asked_about_once(make_config, n):
    train = loader(make_config, n)
    found = sorted((user, item) for (user, _), (items, _) in labelled(train, train._dataset).items() for item in items)
    alone = loader(make_config, 1)
    feat, tokens = alone._dataset.inter_feat, alone._dataset.field2id_token
    rows = zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True)
    assert found == sorted((tokens["user_id"][user], tokens["item_id"][item]) for user, item in rows)
    assert train.n_targets == len(found)


def test_one_target_per_prompt_is_recboles_loader(make_config):
    train = loader(make_config, 1)
    index = np.arange(len(train._dataset))
    np.random.seed(3)
    own = train.collate_fn(index)
    np.random.seed(3)
    hosts = super(TargetTrainDataLoader, train).collate_fn(index)
    assert own.columns == hosts.columns
    for name in own.columns:
        assert torch.equal(own[name], hosts[name]), name


def test_no_negative_is_a_target_of_its_prompt_and_the_others_are_as_drawn(make_config):
    train = loader(make_config, 3)
    index = np.arange(len(train._dataset))
    n_left_out = 0
    for seed in range(30):
        np.random.seed(seed)
        found = labelled([train.collate_fn(index)], train._dataset)
        np.random.seed(seed)
        drawn = labelled([super(TargetTrainDataLoader, train).collate_fn(index)], train._dataset)
        for name, (targets, negatives) in found.items():
            assert negatives == [item for item in drawn[name][1] if item not in targets]
            n_left_out += 2 - len(negatives)
    assert n_left_out > 30  # of nine items it must happen often


def test_further_rows_are_those_of_their_history(make_config):
    train = loader(make_config, 3)
    rows = train.collate_fn(np.arange(len(train._dataset)))
    by_history = {}
    for place, history_id in enumerate(rows[HISTORY_ID].tolist()):
        columns = [name for name in rows.columns if name not in ("item_id", "label")]
        by_history.setdefault(history_id, []).append([rows[name][place].tolist() for name in columns])
    for same in by_history.values():
        assert all(row == same[0] for row in same)


def test_kept_targets_alone_are_asked_about(make_config):
    found = labelled(train := loader(make_config, 3, max_train_targets_per_user=2), train._dataset)
    assert found["six", 2][0] == ["i3", "i4"]
    assert ("six", 1) not in found


def test_a_target_that_comes_twice_in_a_prompt_is_asked_about_once():
    users, history_ids, items = np.array([1, 1, 1, 1]), np.array([1, 2, 3, 4]), np.array([7, 8, 7, 8])
    first, further = grouped(users, history_ids, items, 4)
    assert (first.tolist(), further.tolist()) == ([0], [[1, -1, -1]])


def test_groups_are_made_of_events_in_order_wherever_the_rows_stand():
    users, history_ids, items = np.array([2, 1, 2, 1, 2]), np.array([9, 4, 7, 3, 8]), np.array([90, 40, 70, 30, 80])
    first, further = grouped(users, history_ids, items, 2)
    assert (first.tolist(), further.tolist()) == ([2, 3, 4], [[-1], [1], [0]])


def test_a_group_may_be_larger_than_there_are_rows():
    first, further = grouped(np.array([1, 1]), np.array([1, 2]), np.array([7, 8]), 4)
    assert (first.tolist(), further.tolist()) == ([0], [[1, -1, -1]])


def test_rows_without_an_order_are_asked_about_one_by_one(make_config, atomic_folder):
    options = {**toy.write_pre_split(atomic_folder / "tiny", PRE_SPLIT), "candidate_exclusion": "target"}
    with pytest.raises(UserError, match="targets_per_prompt: 2 needs the time order of a user's targets"):
        loader(make_config, 2, **options)
    assert loader(make_config, 1, **options).n_targets == 3
