"""Split by user: who trains is never tested, and the draw knows tokens alone."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.data.user_split import n_users_of, split_by_user
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model


def test_shares_and_numbers_of_users():
    assert n_users_of([0.5, 0.25, 0.25], 10) == [5, 3, 2]
    assert n_users_of([1.0, 0, 0], 10) == [10, 0, 0]
    assert n_users_of([1, 0, 0], 10) == [1, 0, 0]
    assert n_users_of([4, 2, 2], 10) == [4, 2, 2]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([0.8, 0.2], "must be three numbers >= 0"),
        ("all", "must be three numbers >= 0"),
        ([0.8, -0.1, 0.1], "must be three numbers >= 0"),
        ([0, 0, 0], "must be three numbers >= 0"),
        ([0.8, 0.2, 0.2], "their sum is more than 1"),
        ([8, 0.5, 1], "are read as shares"),
        ([8, 2, 1], "needs 11 users .* only 10 have a target"),
    ],
)
def test_sizes_that_cannot_be_are_refused_with_an_example(sizes, message):
    with pytest.raises(UserError, match=f"{message}.*0.8, 0.1, 0.1"):
        n_users_of(sizes, 10)


def test_every_user_is_in_one_part_with_all_rows():
    users = np.array([2, 1, 3, 1, 2, 3, 1, 4])
    parts, n_unused = split_by_user(users, ["", "a", "b", "c", "d"], [1, 1, 1], 5)
    assert n_unused == 1
    assert [len(np.unique(users[part])) for part in parts] == [1, 1, 1]
    of_user = {1: [1, 3, 6], 2: [0, 4], 3: [2, 5], 4: [7]}
    for part in parts:
        assert part.tolist() == of_user[users[part][0]]
    assert len(np.unique(np.concatenate([users[part] for part in parts]))) == 3


def test_the_draw_depends_on_the_tokens_and_not_on_ids_or_the_order_of_rows():
    tokens = ["", *(f"user{i}" for i in range(40))]
    users = np.arange(1, 41)
    renamed = np.random.default_rng(0).permutation(users)
    other_tokens = np.array(tokens, dtype=object)
    other_tokens[renamed] = tokens[1:]
    first, _ = split_by_user(users, tokens, [20, 10, 10], 1)
    second, _ = split_by_user(renamed, list(other_tokens), [20, 10, 10], 1)
    for a, b in zip(first, second, strict=True):
        assert {tokens[u] for u in users[a]} == {other_tokens[u] for u in renamed[b]}
    third, _ = split_by_user(users, tokens, [20, 10, 10], 2)
    assert set(first[2]) != set(third[2])


@pytest.mark.parametrize("model", ["LLMTRSR", "SASRec", "Pop"])
def test_every_models_view_has_the_same_users_and_targets_and_no_user_twice(make_config, model):
    config = make_config(model, eval_args={"split": {"US": [3, 1, 1]}}, catalogue="items")
    dataset = get_dataset(get_model(model))(config)
    (train, valid, test), *_ = make_loaders(config, dataset)
    users = [part._dataset.inter_feat[dataset.uid_field].numpy() for part in (train, valid, test)]
    assert [len(np.unique(own)) for own in users] == [3, 1, 1]
    assert not set(users[0]) & set(users[1]) | set(users[0]) & set(users[2]) | set(users[1]) & set(users[2])
    of_test = test._dataset.inter_feat
    latest = {"twice": "i3", "thrice": "i5", "six": "i6", "ties": "i5", "unix": "i1"}
    user, target = of_test["user_id"].item(), of_test["item_id"].item()
    assert dataset.field2id_token["item_id"][target] == latest[dataset.field2id_token["user_id"][user]]
    events = {"twice": 2, "thrice": 3, "six": 6, "ties": 5, "unix": 8}
    names = {dataset.field2id_token["user_id"][user] for user in users[0]}
    assert dataset.popularity.sum() == sum(events[name] for name in names)


def test_the_catalogue_of_all_items_holds_those_that_nobody_chose(make_config, atomic_folder):
    with (atomic_folder / "tiny" / "tiny.item").open("a") as file:
        file.write('never\t"A quote that does not end\t\t1\n')
        file.write("i1\tA line more of a known item\t\t1\n")
    for model in ("LLMTRSR", "SASRec", "Pop"):
        few = get_dataset(get_model(model))(make_config(model))
        all_items = get_dataset(get_model(model))(make_config(model, catalogue="items"))
        assert (few.item_num, all_items.item_num) == (10, 11)
        assert set(all_items.field2id_token["item_id"]) - set(few.field2id_token["item_id"]) == {"never"}


def test_the_catalogue_of_all_items_needs_the_file(make_config, atomic_folder):
    (atomic_folder / "tiny" / "tiny.item").unlink()
    with pytest.raises(UserError, match=r"catalogue: items needs the file .*tiny\.item"):
        get_dataset(get_model("Pop"))(make_config("Pop", catalogue="items"))
