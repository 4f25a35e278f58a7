from __future__ import annotations

import numpy as np
import pytest

from recbole_llmtrsr.data.candidates.make import candidate_set
from recbole_llmtrsr.errors import UserError

HISTORY = {"ann": {"i1", "i2"}, "bob": {"i4", "i5"}, "cat": {"i7"}}
TARGET = {"ann": "i3", "bob": "i6", "cat": "i1"}


def test_candidates_are_the_target_and_others_that_are_neither_target_nor_history(
    tmp_path, options, make_dataset, by_user
):
    for seed in range(20):
        made = by_user(candidate_set(options(tmp_path, "uni5", seed=seed), make_dataset(), "test"))
        for user, (positives, negatives) in made.items():
            assert positives == {TARGET[user]}
            assert len(negatives) == 5
            assert not negatives & {*HISTORY[user], TARGET[user], "[PAD]"}


def test_excluding_the_target_alone_lets_the_history_in(tmp_path, options, make_dataset, by_user):
    dataset = make_dataset({"bob": ["i1", "i2", "i3"]}, ["i1", "i2", "i3"])
    made = candidate_set(options(tmp_path, "uni2", "target"), dataset, "test")
    assert by_user(made) == {"bob": ({"i3"}, {"i1", "i2"})}
    assert made.report()["negatives_from_history"] == 2


def test_a_draw_repeats_whatever_numpys_state(tmp_path, options, make_dataset):
    np.random.seed(1)
    first = candidate_set(options(tmp_path / "a"), make_dataset(), "test")
    np.random.seed(2)
    np.random.rand(100)
    second = candidate_set(options(tmp_path / "b"), make_dataset(), "test")
    assert list(first.file.rows()) == list(second.file.rows())
    assert first.digest == second.digest


@pytest.mark.parametrize("mode", ["uni3", "pop3", "match3", "cat3"])
def test_the_order_of_lines_and_rows_changes_nothing(tmp_path, options, make_dataset, by_user, mode, item_file):
    sequences = {"ann": ["i1", "i2", "i3"], "bob": ["i4", "i4", "i5", "i6"], "cat": ["i7", "i1"]}
    items = [f"i{n}" for n in range(1, 13)]
    item_file({item: "xyz"[i % 3] for i, item in enumerate(items)})
    first = candidate_set(options(tmp_path, mode), make_dataset(sequences, items), "test")
    turned = make_dataset(dict(reversed(sequences.items())), items[::-1])
    second = candidate_set(options(tmp_path, mode), turned, "test")
    assert by_user(first) == by_user(second)
    assert first.digest == second.digest
    shuffled = make_dataset(sequences, items)
    shuffled.inter_feat = {name: values[[2, 0, 1]] for name, values in shuffled.inter_feat.items()}
    assert candidate_set(options(tmp_path, mode), shuffled, "test").digest == first.digest


@pytest.mark.parametrize("mode", ["uni3", "cat3"])
def test_other_users_change_nothing(tmp_path, options, make_dataset, by_user, mode, item_file):
    item_file({f"i{n}": "xyz"[n % 3] for n in range(1, 13)})
    alone = make_dataset({"bob": ["i4", "i4", "i5", "i6"]})
    first = by_user(candidate_set(options(tmp_path, mode), make_dataset(), "test"))
    assert by_user(candidate_set(options(tmp_path, mode), alone, "test")) == {"bob": first["bob"]}


@pytest.mark.parametrize("change", [{"seed": 2}, {"mode": "uni4"}, {"mode": "pop3"}, {"exclusion": "target"}])
def test_what_was_asked_differently_is_drawn_apart(tmp_path, options, make_dataset, change):
    first = candidate_set(options(tmp_path), make_dataset(), "test")
    second = candidate_set(options(tmp_path, **change), make_dataset(), "test")
    assert first.digest != second.digest
    assert len(list(tmp_path.iterdir())) == 2


def test_the_splits_are_drawn_apart(tmp_path, options, make_dataset):
    digests = {candidate_set(options(tmp_path), make_dataset(), split).digest for split in ("valid", "test")}
    assert len(digests) == 2


@pytest.mark.parametrize("n_items", [12, 3000])  # drawn by clocks, and by rejection
def test_uniform_candidates_are_uniform(tmp_path, options, make_dataset, n_items):
    items = [f"i{n}" for n in range(n_items)]
    dataset = make_dataset({f"u{n}": ["i0", "i1"] for n in range(1200)}, items)
    made = candidate_set(options(tmp_path, "uni5"), dataset, "test")
    lists = [made[i] for i in made.history_ids]
    drawn = np.array([ids[~positive] for ids, positive in lists])
    assert drawn.shape == (1200, 5)
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    thirds = np.bincount((drawn.ravel() - 3) * 3 // (n_items - 2), minlength=3) / drawn.size
    expected = np.bincount(np.arange(n_items - 2) * 3 // (n_items - 2), minlength=3) / (n_items - 2)
    assert thirds == pytest.approx(expected, abs=0.02)  # 4 standard errors
    assert drawn.min() >= 3


def test_popular_candidates_come_by_their_events(tmp_path, options, make_dataset):
    users = {f"u{n}": ["i1", "i2"] for n in range(1000)}
    crowd = {"c": ["i3"] * 600 + ["i4"] * 300 + ["i5"] * 100 + ["i1"]}
    dataset = make_dataset({**users, **crowd}, ["i1", "i2", "i3", "i4", "i5", "never"])
    made = candidate_set(options(tmp_path, "pop1"), dataset, "test")
    drawn = [negatives[0] for user, _, _, negatives in made.file.rows() if user != "c"]
    share = {token: drawn.count(token) / 1000 for token in ("i3", "i4", "i5", "never")}
    assert share == pytest.approx({"i3": 0.6, "i4": 0.3, "i5": 0.1, "never": 0.0}, abs=0.06)  # 4 standard errors


@pytest.mark.parametrize(("kind", "n", "n_left"), [("uni", 11, 8), ("pop", 4, 3), ("cat", 11, 8), ("match", 11, 8)])
def test_too_few_items_name_the_scarcest_user_and_a_mode_that_works(
    tmp_path, options, make_dataset, kind, n, n_left, item_file
):
    user, dataset = "dan", make_dataset({"cat": ["i7", "i1"], "dan": ["i1", "i2", "i3", "i4"]})
    item_file({"i1": "x"})
    if kind == "pop":  # of all events only these items are left to ann, who has i1 to i3
        user, dataset = "ann", make_dataset({"ann": ["i1", "i2", "i3"], "bob": ["i4", "i5", "i6"]})
    with pytest.raises(UserError) as fault:
        candidate_set(options(tmp_path, f"{kind}{n}"), dataset, "test")
    expected = f"only {n_left} items remain to draw negatives from for user '{user}', but {n} are needed: draw fewer"
    assert expected in str(fault.value)
    assert f"eval_args: {{mode: {kind}{n_left}}}" in str(fault.value)
    assert "candidate_exclusion: target" in str(fault.value)
    assert list(tmp_path.glob("*.npz")) == []
    made = candidate_set(options(tmp_path, f"{kind}{n_left}"), dataset, "test")
    assert made.report()["n_per_history"] == 1 + n_left


@pytest.fixture
def item_file(tmp_path):
    """Writes the .item file of the data set: item -> category."""

    def write(categories: dict[str, str], column: str = "category") -> None:
        lines = [f"item_id:token\tprice:float\t{column}:token\ttitle:token_seq"]
        lines += [f"{item}\t1\t{category}\tany" for item, category in categories.items()]
        (tmp_path / "toy.item").write_text("\n".join(lines) + "\n")

    return write


def test_category_candidates_are_of_the_targets_category(tmp_path, options, make_dataset, by_user, item_file):
    item_file({f"i{n}": "red" if n in (3, 8, 9, 10) else "blue" for n in range(1, 13)})
    made = candidate_set(options(tmp_path, "cat3"), make_dataset({"ann": ["i1", "i2", "i3"]}), "test")
    assert by_user(made) == {"ann": ({"i3"}, {"i8", "i9", "i10"})}
    assert (made.report()["topped_up_histories"], made.report()["topped_up_candidates"]) == (0, 0)


def test_category_candidates_are_drawn_uniformly_among_their_category(tmp_path, options, make_dataset, item_file):
    item_file({f"i{n}": "red" if n <= 8 else "blue" for n in range(1, 13)})
    dataset = make_dataset({f"u{n}": ["i1", "i2"] for n in range(1200)})
    made = candidate_set(options(tmp_path, "cat3"), dataset, "test")
    drawn = [token for _, _, _, negatives in made.file.rows() for token in negatives]
    share = {f"i{n}": drawn.count(f"i{n}") / 3600 for n in range(1, 13)}
    # Of eight, all but the history and the target.
    expected = {f"i{n}": 1 / 6 if 3 <= n <= 8 else 0.0 for n in range(1, 13)}
    assert share == pytest.approx(expected, abs=0.02)  # 4 standard errors


def test_a_category_with_too_few_items_is_topped_up_and_counted(tmp_path, options, make_dataset, by_user, item_file):
    # bob's target has one other of its category left, cat's has no category, ann's has three.
    item_file({"i6": "red", "i5": "red", "i9": "red", "i3": "blue", "i10": "blue", "i11": "blue", "i12": "blue"})
    made = candidate_set(options(tmp_path, "cat3"), make_dataset(), "test")
    found = by_user(made)
    assert found["ann"][1] == {"i10", "i11", "i12"}
    assert "i9" in found["bob"][1]
    assert not found["bob"][1] & {"i4", "i5", "i6"}
    assert [len(negatives) for _, negatives in found.values()] == [3, 3, 3]
    counts = {"topped_up_histories": 2, "topped_up_candidates": 2 + 3}
    assert {name: made.report()[name] for name in counts} == counts
    # The saved set tells the same.
    assert candidate_set(options(tmp_path, "cat3"), make_dataset(), "test").report() == made.report()


def test_other_categories_are_another_draw(tmp_path, options, make_dataset, item_file):
    item_file({f"i{n}": "red" for n in range(1, 13)})
    first = candidate_set(options(tmp_path, "cat3"), make_dataset(), "test")
    item_file({f"i{n}": "red" if n < 9 else "blue" for n in range(1, 13)})
    assert candidate_set(options(tmp_path, "cat3"), make_dataset(), "test").path != first.path


def test_an_item_file_without_the_category_column_is_told_with_those_it_has(tmp_path, options, make_dataset, item_file):
    item_file({"i1": "red"}, column="genre")
    with pytest.raises(UserError) as fault:
        candidate_set(options(tmp_path, "cat3"), make_dataset(), "test")
    assert str(fault.value) == (
        f"eval_args mode 'cat3' needs the column 'category' of {tmp_path / 'toy.item'}, which has genre, title: set"
        " candidate_category to one of these"
    )
    made = candidate_set(options(tmp_path, "cat3", candidate_category="genre"), make_dataset(), "test")
    assert len(made.file) == 3


def test_matched_negatives_are_as_popular_as_the_target_in_training(tmp_path, options, make_dataset, by_user):
    dataset = make_dataset()
    # i1 to i12: two items as popular as ann's target i3, three as bob's i6, one as cat's i1, than which none is more.
    dataset.popularity = np.array([0, 9, 9, 2, 5, 5, 0, 7, 2, 2, 0, 0, 0])
    made = candidate_set(options(tmp_path, "match2"), dataset, "test")
    found = {user: negatives for user, (_, negatives) in by_user(made).items()}
    assert found["ann"] == {"i8", "i9"}
    assert found["bob"] < {"i10", "i11", "i12"}
    assert found["cat"] == {"i4", "i5"}  # i7 is cat's history
    assert {name: made.report()[name] for name in ("more_popular_candidates", "less_popular_candidates")} == {
        "more_popular_candidates": 0,
        "less_popular_candidates": 2,
    }


@pytest.mark.parametrize("n_unsold", [40, 4000])  # drawn by clocks, and by rejection
def test_where_one_side_ends_the_other_gives_more_and_the_last_are_drawn_among_equals(
    tmp_path, options, make_dataset, n_unsold
):
    items = [f"i{n}" for n in range(n_unsold + 5)]
    users = {f"u{n}": ["i0", "i4"] for n in range(1200)}
    dataset = make_dataset(users, items)
    dataset.popularity = np.r_[0, [9, 3, 3, 1, 2], np.zeros(n_unsold, dtype=np.int64)]  # i0 to i4, and the unsold
    made = candidate_set(options(tmp_path, "match5"), dataset, "test")
    drawn = [sorted(int(item[1:]) for item in negatives) for *_, negatives in made.file.rows()]
    # The target i4 was sold twice: i1 and i2 (3 times) stand above, i3 (once) and the unsold below; i0 is history.
    n_above = np.array([sum(item in (1, 2) for item in row) for row in drawn])
    shares = [(n_above == n).mean() for n in (0, 1, 2)]
    assert shares == pytest.approx([1 / 6, 1 / 6, 4 / 6], abs=0.055)  # 4 standard errors
    assert all(3 in row for row in drawn)
    unsold = np.array([item for row in drawn for item in row if item >= 5])
    assert (unsold - 5 >= n_unsold // 2).mean() == pytest.approx(0.5, abs=0.04)


def test_matched_negatives_are_next_above_and_next_below_as_a_sort_of_everything_has_them(
    tmp_path, options, make_dataset
):
    rng = np.random.default_rng(0)
    items = [f"i{n}" for n in range(200)]
    sequences = {f"u{n}": [f"i{i}" for i in rng.permutation(200)[:10]] for n in range(60)}
    dataset = make_dataset(sequences, items)
    dataset.popularity = np.r_[0, np.sort(rng.zipf(1.3, 200) % 300)]
    of = dict(zip(["[PAD]", *items], dataset.popularity.tolist()))
    for user, _, (target,), negatives in candidate_set(options(tmp_path, "match7"), dataset, "test").file.rows():
        counts = np.sort([of[item] for item in items if item not in sequences[user]])
        found = np.sort([of[item] for item in negatives])
        assert len(set(negatives) - set(sequences[user])) == 7
        if (counts == of[target]).sum() >= 7:
            assert set(found) == {of[target]}
            continue
        above, below = found[found > of[target]], found[found < of[target]]
        assert len(above) + len(below) == 7
        assert above.tolist() == counts[counts > of[target]][: len(above)].tolist()
        assert below.tolist() == counts[counts < of[target]][len(counts[counts < of[target]]) - len(below) :].tolist()


def test_the_targets_place_by_popularity_is_any_with_equal_chance(tmp_path, options, make_dataset):
    items = [f"i{n}" for n in range(500)]
    dataset = make_dataset({f"u{n}": ["i0", f"i{100 + n % 300}"] for n in range(2100)}, items)
    dataset.popularity = np.r_[0, np.arange(500)]
    of = dict(zip(["[PAD]", *items], dataset.popularity.tolist()))
    rows = candidate_set(options(tmp_path, "match20"), dataset, "test").file.rows()
    places = [sum(of[negative] > of[target] for negative in negatives) for _, _, (target,), negatives in rows]
    assert np.bincount(places, minlength=21) / 2100 == pytest.approx(np.full(21, 1 / 21), abs=0.02)
