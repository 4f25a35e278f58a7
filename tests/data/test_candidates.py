from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_llmtrsr.data.candidates import CandidateSet, candidate_set, sampled_mode
from recbole_llmtrsr.data.histories import HISTORY_ID, Histories
from recbole_llmtrsr.errors import UserError


def make_dataset(sequences: dict[str, list[str]], items: list[str]):
    """A split with each user's last event as target; ids follow the order of ``items`` and ``sequences``."""
    ids = {token: i for i, token in enumerate(["[PAD]", *items])}
    users = {token: i for i, token in enumerate(["[PAD]", *sequences])}
    flat = np.array([ids[item] for sequence in sequences.values() for item in sequence])
    lengths = np.array([len(sequence) for sequence in sequences.values()])
    starts = np.cumsum(lengths) - lengths
    last = starts + lengths - 1
    rows = {
        HISTORY_ID: torch.from_numpy(last),
        "user_id": torch.arange(1, len(users)),
        "item_id": torch.from_numpy(flat[last]),
    }
    return SimpleNamespace(
        inter_feat=rows,
        uid_field="user_id",
        iid_field="item_id",
        field2id_token={"user_id": np.array(list(users)), "item_id": np.array(list(ids))},
        histories=Histories(flat, np.repeat(starts, lengths), np.arange(len(flat)), flat),
    )


class Options(dict):
    def __init__(self, folder, mode="uni3", exclusion="history", seed=1):
        super().__init__(dataset="toy", seed=seed, eval_args={"mode": {"valid": mode, "test": mode}})
        evaluation = SimpleNamespace(candidate_dir=str(folder), candidate_exclusion=exclusion)
        self.settings = SimpleNamespace(evaluation=evaluation)


ITEMS = [f"i{n}" for n in range(1, 13)]
SEQUENCES = {"ann": ["i1", "i2", "i3"], "bob": ["i4", "i4", "i5", "i6"], "cat": ["i7", "i1"]}


def by_user(drawn: CandidateSet, dataset) -> dict[str, set[str]]:
    ids = dataset.inter_feat[HISTORY_ID].numpy()
    tokens = dataset.field2id_token["item_id"]
    users = dataset.field2id_token["user_id"][dataset.inter_feat["user_id"].numpy()]
    return {str(u): {str(t) for t in tokens[row]} for u, row in zip(users, drawn.negatives(ids), strict=True)}


def test_candidates_are_different_and_neither_target_nor_history(tmp_path):
    dataset = make_dataset(SEQUENCES, ITEMS)
    for seed in range(20):
        for user, chosen in by_user(
            candidate_set(Options(tmp_path, "uni5", seed=seed), dataset, "test"), dataset
        ).items():
            assert len(chosen) == 5
            assert not chosen & {*SEQUENCES[user], "[PAD]"}


def test_excluding_the_target_alone_lets_the_history_in(tmp_path):
    dataset = make_dataset({"bob": ["i1", "i2", "i3"]}, ["i1", "i2", "i3"])
    chosen = by_user(candidate_set(Options(tmp_path, "uni2", "target"), dataset, "test"), dataset)
    assert chosen == {"bob": {"i1", "i2"}}


def test_a_draw_repeats_whatever_numpys_state(tmp_path):
    dataset = make_dataset(SEQUENCES, ITEMS)
    np.random.seed(1)
    first = candidate_set(Options(tmp_path / "a"), dataset, "test")
    np.random.seed(2)
    np.random.rand(100)
    second = candidate_set(Options(tmp_path / "b"), dataset, "test")
    assert first.items.tolist() == second.items.tolist()
    assert first.digest == second.digest


def test_a_saved_set_is_read_again(tmp_path):
    dataset = make_dataset(SEQUENCES, ITEMS)
    drawn = candidate_set(Options(tmp_path), dataset, "test")
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    again = candidate_set(Options(tmp_path), dataset, "test")
    assert (again.items.tolist(), again.digest) == (drawn.items.tolist(), drawn.digest)
    assert path.stat().st_mtime_ns == before
    assert path.name.startswith("toy-test-uniform3-")


@pytest.mark.parametrize("mode", ["uni3", "pop3"])
def test_the_order_of_the_rows_changes_nothing(tmp_path, mode):
    dataset = make_dataset(SEQUENCES, ITEMS)
    turned = make_dataset(dict(reversed(SEQUENCES.items())), ITEMS[::-1])
    first = candidate_set(Options(tmp_path, mode), dataset, "test")
    second = candidate_set(Options(tmp_path, mode), turned, "test")
    assert by_user(first, dataset) == by_user(second, turned)
    assert first.digest == second.digest
    shuffled = make_dataset(SEQUENCES, ITEMS)
    shuffled.inter_feat = {name: values[[2, 0, 1]] for name, values in shuffled.inter_feat.items()}
    third = candidate_set(Options(tmp_path, mode), shuffled, "test")
    assert third.items.tolist() == first.items.tolist()


def test_other_users_change_nothing(tmp_path):
    dataset = make_dataset(SEQUENCES, ITEMS)
    alone = make_dataset({"bob": SEQUENCES["bob"]}, ITEMS)
    first = by_user(candidate_set(Options(tmp_path), dataset, "test"), dataset)
    assert by_user(candidate_set(Options(tmp_path), alone, "test"), alone) == {"bob": first["bob"]}


@pytest.mark.parametrize("change", [{"seed": 2}, {"mode": "uni4"}, {"mode": "pop3"}, {"exclusion": "target"}])
def test_what_was_asked_differently_is_drawn_apart(tmp_path, change):
    dataset = make_dataset(SEQUENCES, ITEMS)
    first = candidate_set(Options(tmp_path), dataset, "test")
    second = candidate_set(Options(tmp_path, **change), dataset, "test")
    assert first.digest != second.digest
    assert len(list(tmp_path.iterdir())) == 2


def test_the_splits_are_drawn_apart(tmp_path):
    dataset = make_dataset(SEQUENCES, ITEMS)
    assert (
        candidate_set(Options(tmp_path), dataset, "valid").digest
        != candidate_set(Options(tmp_path), dataset, "test").digest
    )


def test_other_data_are_another_set(tmp_path):
    candidate_set(Options(tmp_path), make_dataset(SEQUENCES, ITEMS), "test")
    candidate_set(Options(tmp_path), make_dataset({**SEQUENCES, "cat": ["i8", "i1"]}, ITEMS), "test")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("n_items", [12, 3000])  # drawn by clocks, and by rejection
def test_uniform_candidates_are_uniform(tmp_path, n_items):
    items = [f"i{n}" for n in range(n_items)]
    users = {f"u{n}": ["i0", "i1"] for n in range(1200)}
    dataset = make_dataset(users, items)
    drawn = candidate_set(Options(tmp_path, "uni5"), dataset, "test").items
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    thirds = np.bincount((drawn.ravel() - 3) * 3 // (n_items - 2), minlength=3) / drawn.size
    expected = np.bincount(np.arange(n_items - 2) * 3 // (n_items - 2), minlength=3) / (n_items - 2)
    assert thirds == pytest.approx(expected, abs=0.02)  # 4 standard errors
    assert drawn.min() >= 3


def test_popular_candidates_come_by_their_events(tmp_path):
    users = {f"u{n}": ["i1", "i2"] for n in range(1000)}
    crowd = {"c": ["i3"] * 600 + ["i4"] * 300 + ["i5"] * 100 + ["i1"]}
    dataset = make_dataset({**users, **crowd}, [*ITEMS[:5], "never"])
    drawn = candidate_set(Options(tmp_path, "pop1"), dataset, "test").items[:1000, 0]
    tokens = dataset.field2id_token["item_id"][drawn]
    share = {token: float((tokens == token).mean()) for token in ("i3", "i4", "i5", "never")}
    assert share == pytest.approx({"i3": 0.6, "i4": 0.3, "i5": 0.1, "never": 0.0}, abs=0.06)  # 4 standard errors


@pytest.mark.parametrize(("mode", "remedy"), [("uni11", "uni8"), ("pop4", "pop3")])
def test_too_few_items_name_the_scarcest_user_and_a_mode_that_works(tmp_path, mode, remedy):
    dataset = make_dataset(SEQUENCES, ITEMS)
    if mode == "pop4":  # of all events only these items are left to ann, who has i1 to i3
        dataset = make_dataset({"ann": ["i1", "i2", "i3"], "bob": ["i4", "i5", "i6"]}, ITEMS)
    else:
        dataset = make_dataset({"cat": SEQUENCES["cat"], "dan": ["i1", "i2", "i3", "i4"]}, ITEMS)
    with pytest.raises(UserError) as fault:
        candidate_set(Options(tmp_path / "a", mode), dataset, "test")
    user = "ann" if mode == "pop4" else "dan"
    assert f"user '{user}' leaves {remedy[3:]} items to draw from, {mode[3:]} candidates were asked for" in str(
        fault.value
    )
    assert f"eval_args: {{mode: {remedy}}}" in str(fault.value)
    assert "candidate_exclusion: target" in str(fault.value)
    assert not (tmp_path / "a").exists()
    assert candidate_set(Options(tmp_path / "a", remedy), dataset, "test").items.shape == (2, int(remedy[3:]))


def saved(tmp_path):
    dataset = make_dataset(SEQUENCES, ITEMS)
    drawn = candidate_set(Options(tmp_path), dataset, "test")
    (path,) = tmp_path.iterdir()
    return dataset, drawn, path


def write(path, **arrays):
    np.savez(path, **arrays)


def easier(path, drawn):
    items = drawn.items.copy()
    items[0, 0] = next(i for i in range(1, 13) if i not in items[0])
    write(path, history_ids=drawn.history_ids, items=items, digest=drawn.digest)


def negative(path, drawn):
    write(path, history_ids=drawn.history_ids, items=drawn.items - 13, digest=drawn.digest)


def another_split(path, drawn):
    write(path, history_ids=drawn.history_ids + 1, items=drawn.items, digest=drawn.digest)


@pytest.mark.parametrize("tamper", [easier, negative, another_split])
def test_a_changed_set_is_refused(tmp_path, tamper):
    dataset, drawn, path = saved(tmp_path)
    tamper(path, drawn)
    with pytest.raises(UserError, match=r"was changed since it was drawn: delete it to draw it again"):
        candidate_set(Options(tmp_path), dataset, "test")
    path.unlink()
    assert candidate_set(Options(tmp_path), dataset, "test").digest == drawn.digest


def pickled(path, drawn):
    class Evil:
        def __reduce__(self):
            return print, ("un-pickled",)

    array = np.array([Evil()], dtype=object)
    write(path, history_ids=array, items=array, digest=array)


def truncated(path, drawn):
    path.write_bytes(path.read_bytes()[:100])


def flipped(path, drawn):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 - 40 : len(content) // 2] = bytes(40)
    path.write_bytes(bytes(content))


def bare_array(path, drawn):
    with path.open("wb") as file:
        np.save(file, drawn.items)


DAMAGE = {
    "pickled": pickled,
    "truncated": truncated,
    "flipped": flipped,
    "bare array": bare_array,
    "empty": lambda path, drawn: path.write_bytes(b""),
    "text": lambda path, drawn: path.write_text("candidates"),
    "fields missing": lambda path, drawn: write(path, items=drawn.items),
    "item out of range": lambda path, drawn: write(
        path, history_ids=drawn.history_ids, items=drawn.items + 100, digest=drawn.digest
    ),
    "rows missing": lambda path, drawn: write(
        path, history_ids=drawn.history_ids, items=drawn.items[1:], digest=drawn.digest
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_set_is_refused_and_never_unpickled(tmp_path, damage, capsys):
    dataset, drawn, path = saved(tmp_path)
    damage(path, drawn)
    with pytest.raises(UserError, match=rf"candidate set .*{path.name} cannot be read .*delete it to draw it again"):
        candidate_set(Options(tmp_path), dataset, "test")
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written: .*set candidate_dir to a writable folder"):
        candidate_set(Options(tmp_path / "file"), make_dataset(SEQUENCES, ITEMS), "test")


def test_a_history_of_another_split_has_no_candidates():
    drawn = CandidateSet(np.array([2, 5]), np.array([[1], [7]]), "")
    assert drawn.negatives(np.array([5, 2, 5])).tolist() == [[7], [1], [7]]
    for stranger in (0, 3, 9):
        with pytest.raises(KeyError, match="another split"):
            drawn.negatives(np.array([2, stranger]))


def test_modes_that_sample_and_those_that_do_not():
    assert sampled_mode("uni20") == ("uniform", 20)
    assert sampled_mode("pop1") == ("popularity", 1)
    assert [sampled_mode(mode) for mode in ("full", "labeled", "uni", "uni2x", "xuni2")] == [None] * 5
    with pytest.raises(UserError, match="mode 'uni0' ranks a target against nothing: ask for at least uni1"):
        sampled_mode("uni0")
