from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.utils import init_seed

from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, read_candidate_file, write_candidate_file
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.make_loaders import CandidateEvalDataLoader, make_loaders
from recbole_llmtrsr.data.prepare.converters.mind import convert_mind
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer


def loaders(config):
    init_seed(config["seed"], True)
    return make_loaders(config, get_dataset(config.model_class)(config))[:2]


def test_every_model_is_shown_the_same_candidates(make_config):
    digests = {
        model: {split: drawn.digest for split, drawn in loaders(make_config(model))[1].items()}
        for model in ("LLMTRSR", "SASRec", "GRU4Rec", "BPR", "Pop")
    }
    assert set(digests["LLMTRSR"]) == {"valid", "test"}
    assert digests["LLMTRSR"]["valid"] != digests["LLMTRSR"]["test"]
    assert all(own == digests["LLMTRSR"] for own in digests.values())


@pytest.mark.parametrize("model", ["LLMTRSR", "SASRec", "BPR"])
def test_negatives_by_popularity_know_no_event_of_validation_and_test(make_config, model):
    popularity = {"distribution": "popularity", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}
    config = make_config(model, train_neg_sample_args=popularity, loss_type="BPR")
    (train, valid, _), _ = loaders(config)
    seen = set(np.flatnonzero(valid._dataset.popularity).tolist())
    assert len(seen) < valid._dataset.item_num - 1
    assert set(train._sampler.sampling(2_000).tolist()) <= seen


def test_a_user_whom_training_leaves_no_negative_by_popularity_is_told(make_config, atomic_folder):
    """RecBole would draw without end: 'a' has all items that training knows, the others are held out."""
    events = ["a i1 1", "a i2 2", "a i3 3", "a i4 4", "b i1 1", "b i2 2", "b i5 3", "b i6 4"]
    lines = ["user_id:token item_id:token timestamp:float", *events, ""]
    (atomic_folder / "tiny" / "tiny.inter").write_text("\n".join(lines).replace(" ", "\t"))
    popularity = {"distribution": "popularity", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}
    with pytest.raises(UserError, match=r"user 'a' leaves no item .* set train_neg_sample_args: .*uniform"):
        loaders(make_config("BPR", train_neg_sample_args=popularity))


# The test targets of the tiny data set, with candidates of different number; 'six' has two positives.
LISTS = """\
{"user": "six", "n_events": 5, "positives": ["i6", "i8"], "negatives": ["i9"]}
{"user": "thrice", "n_events": 2, "positives": ["i5"], "negatives": ["i2"]}
{"user": "ties", "n_events": 4, "positives": ["i5"], "negatives": ["i1", "i2", "i4", "i3"]}
{"user": "unix", "n_events": 6, "positives": ["i1"], "negatives": ["i6", "i4"]}
"""
RANKED = {
    "six": {"i6": 1.0, "i8": 1.0, "i9": 0.0},
    "thrice": {"i5": 1.0, "i2": 0.0},
    "ties": {"i5": 1.0, "i1": 0.0, "i2": 0.0, "i4": 0.0, "i3": 0.0},
    "unix": {"i1": 1.0, "i6": 0.0, "i4": 0.0},
}


@pytest.fixture
def lists(tmp_path):
    """A value of eval_args that takes the test candidates from a file."""
    (tmp_path / "lists.jsonl").write_text(LISTS)
    return {"mode": {"valid": "uni2", "test": f"file:{tmp_path}/lists.jsonl"}}


@pytest.mark.parametrize("model", ["LLMTRSR", "SASRec", "BPR"])
@pytest.mark.parametrize("batch_size", [1, 10, 1000])
def test_batches_hold_each_history_with_all_its_candidates(make_config, lists, model, batch_size):
    (_, _, test), _ = loaders(make_config(model, eval_args=lists, eval_batch_size=batch_size))
    tokens = test._dataset.field2id_token
    found: dict[str, dict[str, float]] = {}
    positives: list[tuple[str, str]] = []
    for rows, history, positive_rows, positive_items in test:
        users = [str(tokens["user_id"][i]) for i in rows["user_id"]]
        items = [str(tokens["item_id"][i]) for i in rows["item_id"]]
        for user, item, label in zip(users, items, rows["label"].tolist(), strict=True):
            assert item not in found.setdefault(user, {})
            found[user][item] = label
        # What RecBole's trainer relies on: histories numbered from 0, that of the last positive the last.
        assert history.tolist() == sorted(history.tolist())
        assert set(history.tolist()) == set(range(int(positive_rows[-1]) + 1))
        first = [history.tolist().index(i) for i in positive_rows.tolist()]
        positives += [(users[i], str(tokens["item_id"][item])) for i, item in zip(first, positive_items)]
        assert all(len(set(rows[HISTORY_ID][history == i].tolist())) == 1 for i in history.tolist())
    assert found == RANKED
    assert sorted(positives) == [("six", "i6"), ("six", "i8"), ("thrice", "i5"), ("ties", "i5"), ("unix", "i1")]


def test_a_place_in_a_list_tells_no_label(make_config, lists):
    (_, _, test), _ = loaders(make_config("SASRec", eval_args=lists))
    ((rows, history, _, _),) = test
    assert [rows["label"][history == i].tolist()[0] for i in range(4)].count(1.0) < 4


def test_sequences_go_with_their_candidates(make_config, lists):
    (_, _, test), _ = loaders(make_config("SASRec", eval_args=lists))
    ((rows, *_),) = test
    lengths = dict(zip(rows["user_id"].tolist(), rows["item_length"].tolist(), strict=True))
    tokens = test._dataset.field2id_token["user_id"]
    assert {str(tokens[user]): n for user, n in lengths.items()} == {"six": 5, "thrice": 2, "ties": 4, "unix": 6}
    assert len({(user, n) for user, n in zip(rows["user_id"].tolist(), rows["item_length"].tolist())}) == 4


@pytest.mark.parametrize("batch_size", [1, 4, 5, 6, 8, 9, 13])
def test_as_many_whole_lists_as_fit_make_a_batch(make_config, lists, batch_size):
    (_, _, test), _ = loaders(make_config("SASRec", eval_args=lists, eval_batch_size=batch_size))
    batches = [torch.bincount(history).tolist() for _, history, _, _ in test]
    assert sorted(length for batch in batches for length in batch) == [2, 3, 3, 5]
    assert len(batches) == len(test)
    assert all(sum(batch) <= batch_size or len(batch) == 1 for batch in batches)
    assert all(sum(batch) + following[0] > batch_size for batch, following in pairwise(batches))


def score_rows(config, batch_size):
    """The scores by history and item that RecBole's trainer gathers; a row of them is -inf but for candidates."""
    config["eval_batch_size"] = batch_size
    init_seed(1, True)
    (train, _, test), *_ = make_loaders(config, get_dataset(config.model_class)(config))
    init_seed(1, True)
    model = config.model_class(config, train._dataset).eval()
    trainer = get_trainer(config.model_class)(config, model)
    trainer.tot_item_num = test._dataset.item_num
    with torch.no_grad():
        return torch.cat([trainer._neg_sample_batch_eval(batch)[1] for batch in test])


@pytest.mark.parametrize("model", ["SASRec", "BPR", "LLMTRSR"])
def test_lists_longer_than_a_batch_are_cut_without_changing_a_score(make_config, lists, model):
    tiny = {"builtin_hidden_size": 16, "builtin_n_layers": 1, "builtin_n_heads": 2, "builtin_vocab_size": 400}
    tiny = {**tiny, "summary": "none"} if model == "LLMTRSR" else {}
    config = make_config(model, eval_args=lists, **tiny)
    whole, cut = score_rows(config, 1000), score_rows(config, 2)
    assert sorted((whole > -torch.inf).sum(dim=1).tolist()) == [2, 3, 3, 5]
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-5)


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


TRAINS_TIES = 0  # the data seed with which 'ties' is the first user that is drawn


def test_of_impressions_only_rows_with_an_entry_are_ranked(make_config, atomic_folder):
    rows = [("six", 5, ["i6"], ["i9", "i7"]), ("unix", 6, ["i1"], ["i6"]), ("unix", 5, ["i8"], ["i4"])]
    rows += [("six", 0, ["i1"], ["i9"]), ("ties", 1, ["i8"], ["i9"])]  # no history; a user who trains
    write_candidate_file(atomic_folder / "tiny" / "tiny.impressions.npz", CandidateFile.from_rows(rows))
    eval_args = {"mode": {"valid": "uni2", "test": "impressions"}, "split": {"US": [1, 0, 4]}}
    for model in ("LLMTRSR", "SASRec", "BPR"):
        (_, _, test), candidates = loaders(make_config(model, eval_args=eval_args, data_seed=TRAINS_TIES))
        tokens = test._dataset.field2id_token["user_id"]
        names = [(str(tokens[user]), len(test._dataset.histories[i])) for user, i in rows_of(test)]
        assert sorted(names) == [("six", 5), ("unix", 5), ("unix", 6)]
        report = candidates["test"].report()
        assert (report["n_histories"], report["impressions_left_out"]) == (3, 1)


def rows_of(loader):
    """User and history ids of the rows."""
    feat = loader._dataset.inter_feat
    return zip(feat["user_id"].tolist(), feat[HISTORY_ID].tolist(), strict=True)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("Pop", {"eval_args": {"mode": "impressions"}}),
        ("SASRec", {"eval_args": {"mode": {"valid": "impressions", "test": "uni2"}, "split": {"RS": [0.8, 0.1, 0.1]}}}),
        ("Pop", {"also_test": ["impressions"], "eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}}}),
        ("LLMTRSR", {"train_on": "impressions"}),
    ],
)
def test_impressions_are_refused_where_a_user_is_trained_and_tested(make_config, model, options):
    # There is no file of impressions: the fault is told before any is looked for.
    with pytest.raises(UserError, match=r"need a split by user.*got the split .* set eval_args: {split: {US: \[0.8"):
        make_loaders(make_config(model, **options), get_dataset(get_model(model))(make_config(model)))


@pytest.mark.parametrize(("split", "empty"), [("test_only", 1), ("valid_only", 2)])
def test_a_split_without_rows_has_an_empty_loader_and_is_told(make_config, caplog, split, empty):
    made, candidates = loaders(make_config("SASRec", eval_args={"split": {"LS": split}}))
    assert [len(list(loader)) > 0 for loader in made] == [True, empty != 1, empty != 2]
    assert candidates[("valid", "test")[empty - 1]].report()["n_histories"] == 0
    told = [record.getMessage() for record in caplog.records if "split is empty" in record.getMessage()]
    counts = {1: "14 are for training, 0 for validation and 4", 2: "14 are for training, 4 for validation and 0"}
    name = ("validation", "test")[empty - 1]
    assert told == [f"the {name} split is empty: of 18 targets, {counts[empty]} for the test"]


LOSS_ALONE = {"metrics": ["LogLoss"], "valid_metric": "LogLoss"}
VALUES = {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}}


def test_labels_that_are_not_loaded_are_told_with_a_remedy_that_helps(make_config, atomic_folder):
    path = atomic_folder / "tiny" / "tiny.inter"
    header, *lines = path.read_text().splitlines()
    rated = [f"{header}\trating:float", *(f"{line}\t{i % 5}" for i, line in enumerate(lines))]
    path.write_text("\n".join(rated) + "\n")
    with pytest.raises(UserError, match=r"'labeled' needs the column 'label' \(LABEL_FIELD\).*threshold: {rating: 4}"):
        loaders(make_config("SASRec", **VALUES))
    load_col = {"inter": ["user_id", "item_id", "timestamp", "rating"]}
    (_, _, test), _ = loaders(
        make_config("SASRec", load_col=load_col, threshold={"rating": 4}, **{**VALUES, **LOSS_ALONE})
    )
    assert {label for rows, *_ in test for label in rows["label"].tolist()} <= {0.0, 1.0}


def test_labels_that_are_all_alike_are_refused_where_they_are_learned_or_have_no_auc(make_config, atomic_folder):
    path = atomic_folder / "tiny" / "tiny.inter"
    header, *lines = path.read_text().splitlines()
    last = ("six\ti6", "ties\ti5", "thrice\ti5", "twice\ti3", "unix\ti1")  # each user's last event is of the test
    rated = [f"{line}\t{0 if line.startswith(last) else n % 2}" for n, line in enumerate(lines)]
    path.write_text("\n".join([f"{header}\trating:float", *rated]) + "\n")
    own = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp", "rating"]},
        "eval_args": {"mode": "labeled", "split": {"LS": "test_only"}},
    }
    with pytest.raises(UserError, match=r"all 4 labels of the test split are 0: set another threshold"):
        loaders(make_config("SASRec", **own, threshold={"rating": 1}, metrics=["AUC"], valid_metric="AUC"))
    own |= LOSS_ALONE
    loaders(make_config("SASRec", **own, threshold={"rating": 1}))
    with pytest.raises(UserError, match=r"all \d+ labels of the training split are 0: set another threshold"):
        loaders(make_config("SASRec", **own, threshold={"rating": 9}))
    loaders(make_config("BPR", **own, threshold={"rating": 9}))  # it draws negatives and reads no label


def test_nothing_to_train_on_is_told_with_the_split(make_config, atomic_folder):
    (atomic_folder / "tiny" / "tiny.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\na\ti1\t1\nb\ti2\t1\nc\ti3\t1\n"
    )
    with pytest.raises(UserError, match=r"'tiny' leaves no row to train on after the split \{'LS': 'valid_and_test'\}"):
        loaders(make_config("LLMTRSR"))


MIND = Path(__file__).parents[4] / "shared" / "data" / "mind_small_5k"


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not MIND.is_dir(), reason=f"real data missing: {MIND}")
def test_minds_impressions_are_ranked_as_they_were_shown(make_config, tmp_path):
    convert_mind(MIND, tmp_path / "dataset" / "mind")
    eval_args = {"mode": "impressions", "split": {"US": [0.5, 0.1, 0.4]}}
    mind = {"dataset": "mind", "data_path": str(tmp_path / "dataset"), "eval_args": eval_args}
    (_, _, test), candidates = loaders(make_config("Pop", catalogue="items", **mind))
    shown = read_candidate_file(tmp_path / "dataset" / "mind" / "mind.impressions.npz")
    assert (len(shown), len(shown.items), int((shown.n_positives > 1).sum())) == (5_000, 189_359, 1_377)
    report = candidates["test"].report()
    assert report["n_histories"] == len(test._dataset) == 1_955
    assert len({user for user, _ in rows_of(test)}) == 1_822
    assert report["impressions_left_out"] == 8
    assert report["n_per_history"] == [2, 36.804, 276]
    assert report["positives_per_history"] == [1, 1.526, 18]
    assert report["left_out_candidates"] == 0
    whole = {(user, n): (positives, negatives) for user, n, positives, negatives in shown.rows()}
    assert all(
        whole[user, n] == (positives, negatives) for user, n, positives, negatives in candidates["test"].file.rows()
    )
    assert sum(len(rows) for rows, *_ in test) == len(candidates["test"].file.items) == 71_952
    # Some of what was shown was never clicked by anyone, so that it exists only with the .item file.
    with pytest.raises(
        UserError, match=r"1489 candidates in .* are not items of data set 'mind', .*set catalogue: items"
    ):
        loaders(make_config("Pop", **mind))
