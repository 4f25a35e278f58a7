"""Full ranking with and without what a user already chose, for models of both kinds."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from recbole_llmtrsr.data.loaders.full_ranking import excludes_seen
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.registry import get_dataset, get_model


def ranked(make_config, model, **options):
    """Per test user: the target and what is left out."""
    config = make_config(model, eval_args={"mode": "full"}, **options)
    test = make_loaders(config, get_dataset(get_model(model))(config))[0][2]
    found = {}
    for rows, left_out, target_rows, targets in test:
        users, items = test._dataset.field2id_token["user_id"], test._dataset.field2id_token["item_id"]
        for row, user in enumerate(rows["user_id"].tolist()):
            out = [] if left_out is None else left_out[1][left_out[0] == row].tolist()
            found[str(users[user])] = (
                [str(items[i]) for i in targets[target_rows == row].tolist()],
                sorted(str(items[i]) for i in out),
            )
    return found


@pytest.fixture
def options(make_config, atomic_folder):
    """Those of runs with full ranking, in an empty folder."""
    make_config()
    quiet = {"use_gpu": False, "show_progress": False, "state": "ERROR", "epochs": 1, "result_dir": "out"}
    return {**quiet, "data_path": str(atomic_folder), "eval_args": {"mode": "full"}}


SIX, UNIX = ["i1", "i2", "i3", "i4", "i5"], ["i2", "i3", "i7", "i8", "i9"]


@pytest.mark.parametrize("model", ["SASRec", "LLMTRSR", "Pop", "BPR"])
def test_under_one_rule_all_models_leave_out_the_same(make_config, model):
    without = ranked(make_config, model, exclude_seen="yes")
    assert without["six"] == (["i6"], SIX)
    assert without["unix"] == (["i1"], UNIX)
    whole = ranked(make_config, model, exclude_seen="no")
    assert whole["six"] == (["i6"], [])
    assert whole["unix"] == (["i1"], [])


@pytest.mark.parametrize(("model", "expected"), [("SASRec", []), ("LLMTRSR", []), ("Pop", SIX)])
def test_auto_is_recboles_rule_by_kind_of_model(make_config, model, expected):
    assert ranked(make_config, model)["six"] == (["i6"], expected)


def test_a_target_that_was_chosen_before_is_ranked_all_the_same(make_config, atomic_folder):
    inter = atomic_folder / "tiny" / "tiny.inter"
    inter.write_text(inter.read_text() + "six\ti2\t7\n")
    for model in ("SASRec", "Pop"):
        assert ranked(make_config, model, exclude_seen="yes")["six"] == (["i2"], ["i1", "i3", "i4", "i5", "i6"])


def test_kinds_are_compared_under_one_rule_alone(make_config, options):
    assert not excludes_seen(make_config("SASRec", eval_args={"mode": "full"}))
    with pytest.raises(UserError, match="history out for Pop and not for SASRec.*set exclude_seen: yes or no for all"):
        compare(["SASRec", "Pop"], "tiny", config_dict=options)
    (sasrec, pop), _ = compare(["SASRec", "Pop"], "tiny", config_dict={**options, "exclude_seen": "yes"})
    assert sasrec["n_test"] == pop["n_test"]


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.4, 0.2, 0.4]}, {"US": [0.5, 0.2, 0.3]}])
def test_under_one_rule_models_of_all_kinds_rank_the_same_rows(options, split):
    options |= {"eval_args": {"mode": "full", "split": split}, "exclude_seen": "yes"}
    _, folder = compare(["SASRec", "Pop"], "tiny", config_dict=options)
    sasrec, pop = (pd.read_csv(folder / name / "per_history.csv") for name in ("SASRec", "Pop"))
    columns = ["user_id", "n_events", "target", "n_candidates"]
    pd.testing.assert_frame_equal(sasrec[columns], pop[columns])
    assert (sasrec["n_candidates"] < 9).all()


def test_left_out_items_are_not_ranked(options):
    """'six' chose 5 of 9 items before the target: 4 are ranked, so the target is at least fourth."""
    options |= {"exclude_seen": "yes", "metrics": ["Recall"], "topk": [4], "valid_metric": "Recall@4"}
    torch.manual_seed(0)
    (result,), folder = compare(["SASRec"], "tiny", config_dict=options)
    rows = pd.read_csv(folder / "per_history.csv").set_index("user_id")
    assert rows.loc["six", "recall@4"] == 1
