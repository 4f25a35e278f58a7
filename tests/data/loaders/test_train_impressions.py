"""Training on impressions: one click and what was shown beside it, of training users alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labelled_rows import labelled

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, write_candidate_file
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.data.loaders.train_impressions import impression_loader
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model

# Of 'six' the impressions at the third and the fifth event, of 'ties' at the second, where all was clicked.
ROWS = [
    ("six", 2, ["i3"], ["i7", "i8", "i9"]),
    ("six", 4, ["i5", "i6"], ["i1"]),
    ("ties", 1, ["i8"], []),
    ("unix", 3, ["i9"], ["i4", "i5"]),
]
SPLIT = {"US": [5, 0, 0]}


def loader(make_config, atomic_folder, model="LLMTRSR", rows=ROWS, **options):
    write_candidate_file(atomic_folder / "tiny" / "tiny.impressions.npz", CandidateFile.from_rows(rows))
    options = {"eval_args": {"split": SPLIT}, "train_on": "impressions", "targets_per_prompt": 1, **options}
    config = make_config(model, **options)
    return make_loaders(config, get_dataset(get_model(model))(config))[0][0]


def test_a_row_has_one_click_and_some_of_what_was_not_clicked(make_config, atomic_folder):
    negatives = {"distribution": "uniform", "sample_num": 2, "dynamic": False}
    train = loader(make_config, atomic_folder, train_neg_sample_args=negatives)
    seen = {}
    for _ in range(40):
        for name, (clicked, others) in labelled(train, train._dataset).items():
            seen.setdefault(name, (set(), set(), set()))
            seen[name][0].update(clicked)
            seen[name][1].update(others)
            seen[name][2].add((len(clicked), len(others)))
    assert seen == {
        ("six", 2): ({"i3"}, {"i7", "i8", "i9"}, {(1, 2)}),
        ("six", 4): ({"i5", "i6"}, {"i1"}, {(1, 1)}),
        ("unix", 3): ({"i9"}, {"i4", "i5"}, {(1, 2)}),
    }


def test_several_clicks_are_asked_about_at_once_if_so_many_are_wanted(make_config, atomic_folder):
    train = loader(make_config, atomic_folder, targets_per_prompt=2)
    clicked = {name: sorted(clicks) for name, (clicks, _) in labelled(train, train._dataset).items()}
    assert train.n_targets == 4
    assert clicked == {("six", 2): ["i3"], ("six", 4): ["i5", "i6"], ("unix", 3): ["i9"]}


def test_rows_keep_the_history_of_their_impression(make_config, atomic_folder):
    train = loader(make_config, atomic_folder)
    batch = next(iter(train))
    dataset = train._dataset
    for user, length, history_id in zip(batch["user_id"], batch["item_length"], batch[HISTORY_ID].tolist()):
        assert len(dataset.histories[history_id]) == int(length)
        assert dataset.field2id_token["user_id"][user] in ("six", "unix")
    assert batch["label"].dtype == torch.float32


def test_a_seed_repeats_the_draws(make_config, atomic_folder):
    epochs = []
    for _ in range(2):
        train = loader(make_config, atomic_folder)
        np.random.seed(7)
        epochs.append([labelled(train, train._dataset) for _ in range(3)])
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize("data_seed", range(6))
def test_impressions_of_test_users_are_not_trained_on(make_config, atomic_folder, data_seed):
    # Every user but the two shortest has an impression at its second event.
    rows = [("six", 1, ["i2"], ["i9"]), ("ties", 1, ["i8"], ["i1"]), ("unix", 1, ["i2"], ["i4"])]
    rows += [("twice", 1, ["i3"], ["i5"]), ("thrice", 1, ["i4"], ["i7"])]
    write_candidate_file(atomic_folder / "tiny" / "tiny.impressions.npz", CandidateFile.from_rows(rows))
    options = {"eval_args": {"split": {"US": [2, 1, 2]}}, "train_on": "impressions", "data_seed": data_seed}
    config = make_config("LLMTRSR", **options)
    (train, valid, test), *_ = make_loaders(config, get_dataset(get_model("LLMTRSR"))(config))
    trained = {int(user) for batch in train for user in batch["user_id"]}
    held_out = {int(user) for part in (valid, test) for user in part._dataset.inter_feat["user_id"]}
    assert (len(trained), len(held_out)) == (2, 3)
    assert not trained & held_out


def test_models_of_recbole_train_as_ever(make_config, atomic_folder):
    train = loader(make_config, atomic_folder, "SASRec")
    assert len(train._dataset) > len(ROWS)
    assert type(train).__name__ == "TrainDataLoader"


def test_the_latest_impressions_of_a_user_count_not_the_latest_targets(make_config, atomic_folder):
    rows = [("unix", 1, ["i2"], ["i4"]), ("unix", 2, ["i3"], ["i4"])]
    train = loader(make_config, atomic_folder, rows=rows, max_train_targets_per_user=None)
    assert sorted(labelled(train, train._dataset)) == [("unix", 1), ("unix", 2)]
    options = {"eval_args": {"split": SPLIT}, "train_on": "impressions", "max_train_targets_per_user": 1}
    train = impression_loader(make_config("LLMTRSR", **options), train._dataset)
    assert [*labelled(train, train._dataset)] == [("unix", 2)]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_draws_anew(make_config, atomic_folder, workers):
    rows = [("six", 2, ["i3", "i4"], [f"i{n}" for n in (1, 2, 5, 6, 7, 8, 9)])]
    negatives = {"distribution": "uniform", "sample_num": 2, "dynamic": False}
    train = loader(make_config, atomic_folder, rows=rows, train_neg_sample_args=negatives, worker=workers)
    epochs = [str(labelled(train, train._dataset)) for _ in range(6)]
    assert len(set(epochs)) > 1


def test_impressions_without_anything_to_learn_are_refused(make_config, atomic_folder):
    with pytest.raises(UserError, match="none of the 18 targets has a row with a negative in .*tiny.impressions.npz"):
        loader(make_config, atomic_folder, rows=[("ties", 1, ["i8"], [])])


@pytest.mark.parametrize(
    "negatives",
    [
        {"distribution": "uniform", "sample_num": 2, "dynamic": True, "candidate_num": 2},
        None,
    ],
)
def test_negatives_that_impressions_cannot_give_are_refused(make_config, atomic_folder, negatives):
    with pytest.raises(UserError, match=r"set it to {distribution: uniform, sample_num: 8, dynamic: False}"):
        loader(make_config, atomic_folder, train_neg_sample_args=negatives)


def test_the_number_of_negatives_is_enough(make_config, atomic_folder):
    train = loader(make_config, atomic_folder, train_neg_sample_args={"distribution": "uniform", "sample_num": 1})
    assert all(len(others) == 1 for _, others in labelled(train, train._dataset).values())
