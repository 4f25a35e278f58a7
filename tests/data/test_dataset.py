from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy

from recbole_llmtrsr.data.candidates.split_rows import SplitRows
from recbole_llmtrsr.data.dataset import LLMTRSRDataset, load_dataset
from recbole_llmtrsr.data.histories import HISTORY_ID, latest_rows
from recbole_llmtrsr.data.item_text import PLACEHOLDER
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.item_vectors import item_vectors
from recbole_llmtrsr.registry import get_dataset

SEQUENCES = {
    "once": ["i1"],
    "twice": ["i2", "i3"],
    "thrice": ["i1", "i4", "i5"],
    "six": ["i1", "i2", "i3", "i4", "i5", "i6"],
    "ties": ["i9", "i8", "i7", "i6", "i5"],
    "unix": ["i2", "i2", "i3", "i9", "i7", "i8", "i1"],
}


def history_of(part: Any, history_id: int) -> list[str]:
    """Item tokens before the target, oldest first."""
    return [part.item_tokens[i] for i in part.histories[history_id]]


def rows(part: Any) -> set[tuple[str, int]]:
    """(user, events before the target) of every row, after checking its history and target against SEQUENCES."""
    found = []
    for user, item, history_id in zip(
        part.inter_feat["user_id"], part.inter_feat["item_id"], part.inter_feat[HISTORY_ID].tolist(), strict=True
    ):
        sequence = SEQUENCES[str(part.field2id_token["user_id"][user])]
        history = history_of(part, history_id)
        assert history == sequence[: len(history)]
        assert part.field2id_token["item_id"][item] == sequence[len(history)]
        found.append((str(part.field2id_token["user_id"][user]), len(history)))
    assert len(found) == len(set(found))
    return set(found)


ALL = {(user, n) for user, sequence in SEQUENCES.items() for n in range(1, len(sequence))}
LAST = {("thrice", 2), ("six", 5), ("ties", 4), ("unix", 6)}
LAST_BUT_ONE = {("thrice", 1), ("six", 4), ("ties", 3), ("unix", 5)}


@pytest.mark.parametrize(
    ("split", "valid", "test"),
    [
        # A user's only row stays in training: of 'thrice' with two rows one can be left out.
        ("valid_and_test", {("six", 4), ("ties", 3), ("unix", 5)}, LAST),
        ("valid_only", LAST, set()),
        ("test_only", set(), LAST),
    ],
)
def test_leave_one_out_takes_each_users_last_targets(make_config, split, valid, test):
    config = make_config(eval_args={"split": {"LS": split}})
    parts = [rows(part) for part in LLMTRSRDataset(config).build()]
    assert parts == [ALL - valid - test, valid, test]


LATER = {("unix", n) for n in range(2, 7)}
SPLITS = {
    "each user's rows in time": (
        {"split": {"RS": [0.5, 0.25, 0.25]}, "group_by": "user"},
        {("six", 4), ("ties", 3), ("unix", 5)},
        LAST,
    ),
    "all rows at one time": ({"split": {"RS": [0.6, 0.1, 0.3]}, "group_by": "none"}, {("unix", 1)}, LATER),
    "at a boundary in time": (
        {"split": {"TS": [0.4, 0.2, 0.4]}},
        {("six", 4), ("six", 5), ("ties", 3), ("ties", 4), ("thrice", 2)},
        {("twice", 1), ("unix", 1), *LATER},
    ),
}


@pytest.mark.parametrize(("eval_args", "valid", "test"), SPLITS.values(), ids=SPLITS)
def test_a_ratio_or_a_time_cuts(make_config, eval_args, valid, test):
    parts = [rows(part) for part in LLMTRSRDataset(make_config(eval_args=eval_args)).build()]
    assert parts == [ALL - valid - test, valid, test]


def test_a_random_order_keeps_every_history(make_config):
    config = make_config(eval_args={"split": {"RS": [0.5, 0.25, 0.25]}, "group_by": "none", "order": "RO"})
    parts = [rows(part) for part in LLMTRSRDataset(config).build()]
    assert set.union(*parts) == ALL
    assert sum(map(len, parts)) == len(ALL)


def test_a_history_reaches_beyond_recboles_window(make_config):
    dataset = LLMTRSRDataset(make_config(MAX_ITEM_LIST_LENGTH=2))
    test = dataset.build()[2]
    assert rows(test) == LAST
    assert test.inter_feat["item_id_list"].shape[1] == 2


PRE_SPLIT = {
    "train": "six i2 i1\nsix i4 i1,i2,i3\nunix i3 ",
    "valid": "six i5 i1,i2,i3,i4",
    "test": "six i6 i1,i2,i3,i4,i5\ntwice i3 i2",
}


def test_pre_split_files_bring_their_own_histories(make_config, atomic_folder):
    dataset = LLMTRSRDataset(make_config(**toy.write_pre_split(atomic_folder / "tiny", PRE_SPLIT)))
    found = []
    for part in dataset.build():
        ids = part.inter_feat[HISTORY_ID].tolist()
        users = [str(part.field2id_token["user_id"][u]) for u in part.inter_feat["user_id"]]
        found.append([(user, history_of(part, i)) for user, i in zip(users, ids, strict=True)])
    assert found == [
        [("six", ["i1"]), ("six", ["i1", "i2", "i3"]), ("unix", [])],
        [("six", ["i1", "i2", "i3", "i4"])],
        [("six", ["i1", "i2", "i3", "i4", "i5"]), ("twice", ["i2"])],
    ]


def test_pre_split_files_may_call_items_by_another_name(make_config, atomic_folder):
    toy.write_pre_split(atomic_folder / "tiny", PRE_SPLIT)
    for path in (atomic_folder / "tiny").iterdir():
        path.write_text(path.read_text().replace("item_id", "product"))
    dataset = LLMTRSRDataset(
        make_config(
            benchmark_filename=list(PRE_SPLIT),
            ITEM_ID_FIELD="product",
            load_col=None,
            alias_of_item_id=["product_list"],
        )
    )
    (_, valid, _) = dataset.build()
    assert history_of(valid, int(valid.inter_feat[HISTORY_ID][0])) == ["i1", "i2", "i3", "i4"]


def test_pre_split_histories_must_share_the_items_numbers(make_config, atomic_folder):
    options = toy.write_pre_split(atomic_folder / "tiny", PRE_SPLIT)
    with pytest.raises(UserError, match=r"set alias_of_item_id: \[item_id_list\]"):
        LLMTRSRDataset(make_config(**{**options, "alias_of_item_id": None})).build()


def test_pre_split_files_without_histories_name_the_column(make_config, atomic_folder):
    options = {**toy.write_pre_split(atomic_folder / "tiny", PRE_SPLIT), "alias_of_item_id": None}
    options["load_col"] = {"inter": ["user_id", "item_id"]}
    with pytest.raises(UserError, match=r"benchmark_filename needs the column 'item_id_list'"):
        LLMTRSRDataset(make_config(**options)).build()


def test_the_latest_training_targets_of_each_user_stay(make_config):
    train, valid, test = LLMTRSRDataset(make_config(max_train_targets_per_user=2)).build()
    assert rows(train) == {
        ("twice", 1),
        ("thrice", 1),
        *{("six", 2), ("six", 3)},
        *{("ties", 1), ("ties", 2)},
        *{("unix", 3), ("unix", 4)},
    }
    assert (rows(valid), rows(test)) == ({("six", 4), ("ties", 3), ("unix", 5)}, LAST)


def test_latest_counts_history_ids_whatever_the_order_of_rows():
    users, ids = np.array([2, 1, 2, 1, 2]), np.array([9, 1, 7, 3, 8])
    assert latest_rows(users, ids, 1).tolist() == [0, 3]
    assert latest_rows(users, ids, 2).tolist() == [0, 1, 3, 4]
    assert latest_rows(users[:0], ids[:0], 2).tolist() == []


def test_items_answer_with_their_text_and_the_padding_with_the_placeholder(make_config):
    dataset = LLMTRSRDataset(make_config())
    assert dataset.item(0).line == PLACEHOLDER
    assert dataset.item(dataset.field2token_id["item_id"]["i1"]).line == 'title: Red "Star" kettle; maker: Oslo'
    assert dataset.item(dataset.field2token_id["item_id"]["i4"]).line == "title: White lamp"
    assert dataset.items_without_text == []


def test_an_item_without_a_row_is_named_and_gets_the_placeholder(make_config, atomic_folder, caplog):
    path = atomic_folder / "tiny" / "tiny.item"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("i7")))
    dataset = LLMTRSRDataset(make_config())
    assert dataset.items_without_text == ["i7"]
    assert dataset.item(dataset.field2token_id["item_id"]["i7"]).line == PLACEHOLDER
    assert "1 of 9 items have no text in the .item file and get a placeholder, for example i7" in caplog.text


def test_a_line_with_surplus_columns_is_reported_with_its_number(make_config, atomic_folder, caplog):
    with (atomic_folder / "tiny" / "tiny.item").open("a") as file:
        file.write("i10\ttitle\tmaker\t1.0\tsurplus\n")
    assert LLMTRSRDataset(make_config()).item_text.ragged_lines == (11,)
    assert "1 lines of the .item file have more columns than its header" in caplog.text


def test_summaries_are_shared_with_the_splits_and_a_missing_one_is_an_error(make_config):
    dataset = LLMTRSRDataset(make_config())
    train, _, test = dataset.build()
    assert test.summary_sample(4) == []
    with pytest.raises(KeyError, match="history 1 has no summary"):  # none is made yet
        train.summary(1)
    ids = test.inter_feat[HISTORY_ID].tolist()
    dataset.set_summaries({1: "likes kettles", **{i: f"taste {i}" for i in ids}})
    assert (train.summary(1), test.summary(ids[0])) == ("likes kettles", f"taste {ids[0]}")
    assert test.summary_sample(4) == [f"taste {i}" for i in ids]
    assert test.summary_sample(3) == [f"taste {ids[0]}", f"taste {ids[2]}"]
    with pytest.raises(KeyError):
        test.summary(3)
    assert LLMTRSRDataset(make_config(summary="none")).summary(1) == ""


def test_no_item_file_is_an_error_that_says_what_to_write(make_config, atomic_folder):
    (atomic_folder / "tiny" / "tiny.item").unlink()
    with pytest.raises(UserError, match=r"no item file .*tiny\.item.*create one with the header 'item_id:token"):
        LLMTRSRDataset(make_config())


@pytest.mark.parametrize(
    "filters",
    [
        {"user_inter_num_interval": "[100,inf)"},
        {"item_inter_num_interval": "[100,inf)"},
        {"val_interval": {"timestamp": "[9e9,inf)"}},
    ],
)
def test_filters_that_leave_nothing_are_named(make_config, filters):
    with pytest.raises(UserError, match=f"'tiny' is empty after filtering by .*{next(iter(filters))}.*loosen"):
        load_dataset(LLMTRSRDataset, make_config(**filters))


def test_a_file_without_a_line_is_empty_too(make_config, atomic_folder):
    (atomic_folder / "tiny" / "tiny.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n")
    with pytest.raises(UserError, match=r"'tiny' is empty after filtering: the \.inter file has no usable line"):
        load_dataset(LLMTRSRDataset, make_config())


@pytest.mark.parametrize("text", ["user_id\titem_id\n1\t2\n", "user_id:word\n", ""])
def test_a_malformed_inter_file_is_the_users_fault(make_config, atomic_folder, text):
    (atomic_folder / "tiny" / "tiny.inter").write_text(text)
    with pytest.raises(UserError, match="dataset 'tiny' cannot be loaded from"):
        load_dataset(LLMTRSRDataset, make_config())


@pytest.mark.parametrize("model", ["LLMTRSR", "BPR"])
def test_without_times_the_order_is_unknown(make_config, model):
    config = make_config(model, load_col={"inter": ["user_id", "item_id"]})
    with pytest.raises(UserError, match=r"column 'timestamp' is not loaded.*list it in load_col"):
        get_dataset(config.model_class)(config).build()


@pytest.mark.parametrize("model", ["LLMTRSR", "TALLRec", "HLLM", "LiteLLM4Rec", "SASRec"])
def test_items_of_which_none_has_a_text_are_refused_whatever_reads_them(make_config, atomic_folder, model):
    path = atomic_folder / "tiny" / "tiny.item"
    path.write_text(path.read_text().replace("\ni", "\nI"))
    config = make_config(model, text_init="any" if model == "SASRec" else None)
    with pytest.raises(UserError, match=r"0 of 9 items have a text.*'i\d' and 'I1'"):
        dataset = load_dataset(get_dataset(config.model_class), config)
        item_vectors(config, dataset, "text_init")  # of a model of ids, which reads texts for its first embeddings


@pytest.mark.parametrize("model", ["LLMTRSR", "SASRec", "Pop"])
def test_one_long_id_gives_no_other_id_its_length(make_config, atomic_folder, model):
    path = atomic_folder / "tiny" / "tiny.inter"
    path.write_text(path.read_text() + "\n".join(f"six\ti6{'x' * 3000}\t{n}" for n in (7, 8)) + "\n")
    config = make_config(model)
    dataset = load_dataset(get_dataset(config.model_class), config)
    tokens = dataset.field2id_token["item_id"]
    assert max(map(len, tokens)) == 3002
    assert tokens.nbytes == 8 * len(tokens)
    rows = SplitRows.of(make_loaders(config, dataset)[0][2]._dataset)
    assert [part.nbytes for part in (rows.users, rows.item_tokens)] == [8 * len(rows), 8 * len(tokens)]
