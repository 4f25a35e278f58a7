from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.evaluation.comparison.shared_rows import check_comparable, share_rows
from recbole_llmtrsr.evaluation.per_history import per_history


def table(values: list[float], metrics: dict[str, list[float]] | None = None, **changes) -> pd.DataFrame:
    n = len(values)
    arguments = {
        "users": ["a", "b", "b", "c"][:n],
        "n_events": [5, 9, 7, 5][:n],
        "targets": ["i1", "i2", "i3", "i4"][:n],
        "values": metrics or {"mrr@3": values},
        "ranks": [1.0] * n,
        "n_candidates": [3] * n,
        "n_positives": [1] * n,
        "features": {},
        **changes,
    }
    return per_history(**arguments)


def run(
    label: str, seed: int, ranked: pd.DataFrame | None, ablations=None, hash_: str = "0123456789abcdef", **result
) -> Run:
    content = {"dataset": "tiny", "test_result": {}, "candidates": {"test": {"hash": hash_}}, **result}
    return Run(label, seed, content, ranked, ablations or {})


def test_rows_come_in_one_order_whatever_order_they_were_ranked_in():
    shuffled = table([1.0, 2.0, 3.0, 4.0]).iloc[[2, 0, 3, 1]].reset_index(drop=True)
    shared = share_rows([run("A", 1, table([1.0, 2.0, 3.0, 4.0])), run("B", 1, shuffled)])
    assert shared.rows["user_id"].tolist() == ["a", "b", "b", "c"]
    assert shared.rows["n_events"].tolist() == [5, 7, 9, 5]
    for label in ("A", "B"):
        assert shared.scores[label].of_seeds[0, :, 0].tolist() == [1.0, 3.0, 2.0, 4.0]


def test_seeds_of_a_label_are_kept_apart_and_ablations_are_changes():
    one = run("A", 1, table([1.0, 0.0, 0.5, 0.5]), {"no summary": table([0.5, 0.0, 0.5, 0.0])})
    two = run("A", 2, table([0.0, 0.0, 0.5, 1.0]))
    scores = share_rows([one, two]).scores["A"]
    assert scores.seeds == (1, 2)
    assert scores.of_seeds[:, :, 0].tolist() == [[1.0, 0.5, 0.0, 0.5], [0.0, 0.5, 0.0, 1.0]]
    assert scores.changes["no summary"][:, :, 0].tolist() == [[-0.5, 0.0, 0.0, -0.5]]


def test_gauc_weighs_a_row_by_its_positives_and_one_without_a_value_by_0():
    ranked = table(
        [1.0, 1.0, 1.0],
        metrics={"mrr@3": [1, 1, 1], "gauc": [0.5, np.nan, 1.0]},
        n_positives=[1, 3, 2],
        n_events=[5, 6, 7],
    )
    assert share_rows([run("A", 1, ranked)]).weights.tolist() == [[1, 1], [1, 0], [1, 2]]


def test_what_one_run_does_not_know_of_a_target_another_may():
    knows = table([1.0, 1.0], features={"target_words": [4, 5], "target_popularity": [0, 2]})
    shared = share_rows([run("Pop", 1, table([1.0, 1.0])), run("LLMTRSR", 1, knows)])
    assert shared.rows["target_words"].tolist() == [4, 5]
    assert shared.rows["target_popularity"].tolist() == [0, 2]


def test_other_counts_of_the_same_targets_are_refused():
    one = run("Pop", 1, table([1.0, 1.0], features={"target_popularity": [0, 2]}))
    other = run("Pop", 2, table([1.0, 1.0], features={"target_popularity": [1, 2]}))
    unknown = run("Ours", 1, table([1.0, 1.0]))
    with pytest.raises(
        UserError, match=r"Pop \(seed 2\) counts the training events of the targets differently from Pop"
    ):
        share_rows([unknown, one, other])


def test_a_prompt_is_trimmed_if_it_was_with_any_seed():
    first = table([1.0] * 3, features={"prompt_trimmed": [False, False, True]})
    second = table([1.0] * 3, features={"prompt_trimmed": [False, True, True]})
    # In the order of the keys the third row comes second.
    shared = share_rows([run("A", 1, first), run("A", 2, second), run("Pop", 1, table([1.0] * 3))])
    assert shared.scores["A"].trimmed.tolist() == [False, True, True]
    assert shared.scores["Pop"].trimmed.isna().all()


def test_a_metric_that_one_run_did_not_measure_is_unknown_there():
    other = table([0.5, 0.5], metrics={"ndcg@3": [0.1, 0.2]})
    shared = share_rows([run("A", 1, table([1.0, 0.0])), run("B", 1, other)])
    assert shared.metrics == ["mrr@3", "ndcg@3"]
    assert np.isnan(shared.scores["B"].of_seeds[0, :, 0]).all()
    assert shared.scores["B"].of_seeds[0, :, 1].tolist() == [0.1, 0.2]
    assert shared.weights.tolist() == [[1, 1], [1, 1]]


def test_runs_on_other_histories_are_refused_with_their_numbers():
    other = table([1.0, 1.0, 1.0], users=["a", "b", "x"], n_events=[5, 9, 7])
    message = re.escape(
        "B (seed 2) ranked 3 histories, A (seed 1) ranked 4; 1 of the former and 2 of the latter are missing from the"
        " other run, such as user x after 7 events: compare runs with the same"
    )
    with pytest.raises(UserError, match=message):
        share_rows([run("A", 1, table([1.0] * 4)), run("B", 2, other)])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"n_candidates": [3, 4, 5, 3]}, "another n_candidates than A (seed 1) in 2 of 4 histories"),
        ({"n_positives": [2, 1, 1, 1]}, "another n_positives than A (seed 1) in 1 of 4 histories"),
        ({"targets": ["i1", "i2", "i3", "x"]}, "another target than A (seed 1) in 1 of 4 histories"),
    ],
)
def test_runs_on_other_targets_or_sets_are_refused(changes, fault):
    with pytest.raises(UserError, match=re.escape(f"B (seed 1) has {fault}: compare runs")):
        share_rows([run("A", 1, table([1.0] * 4)), run("B", 1, table([1.0] * 4, **changes))])


def test_which_of_several_positives_is_called_the_target_does_not_matter():
    one, other = (table([1.0] * 4, targets=["i1", "i2", "i3", last], n_positives=[2] * 4) for last in ("i4", "x"))
    assert share_rows([run("A", 1, one), run("B", 1, other)]) is not None


def test_where_rows_share_user_and_length_the_target_tells_them_apart():
    twice = {"users": ["a", "a"], "n_events": [5, 5]}
    first = table([1.0, 2.0], targets=["i1", "i2"], **twice)
    turned = table([2.0, 1.0], targets=["i2", "i1"], **twice)
    shared = share_rows([run("A", 1, first), run("B", 1, turned)])
    assert shared.scores["B"].of_seeds[0, :, 0].tolist() == [1.0, 2.0]
    several = {**twice, "n_positives": [2, 2]}
    first = table([1.0, 2.0], targets=["i1", "i2"], **several)
    with pytest.raises(UserError, match="another target"):
        share_rows([run("A", 1, first), run("B", 1, table([2.0, 1.0], targets=["i2", "i3"], **several))])


def test_an_ablation_must_have_ranked_the_same_rows():
    with pytest.raises(
        UserError, match=re.escape("A (seed 1) under 'no summary' ranked 3 histories, A (seed 1) ranked 4")
    ):
        share_rows([run("A", 1, table([1.0] * 4), {"no summary": table([1.0] * 3)})])


def test_a_seed_without_a_table_beside_seeds_with_one_is_refused():
    with pytest.raises(
        UserError, match=r"A \(seed 2\) has no table of ranked histories, but other seeds of A have one"
    ):
        share_rows([run("A", 1, table([1.0])), run("A", 2, None)])
    assert share_rows([run("A", 1, None)]) is None
    assert list(share_rows([run("A", 1, None), run("B", 1, table([1.0]))]).scores) == ["B"]


def test_runs_that_met_other_candidates_or_data_are_refused():
    for changes, fault in (
        ({"hash_": "ffff"}, "B (seed 1) ranked other test candidates (ffff) than A (seed 1) (0123456789ab)"),
        ({"candidates": {}}, "ranked other test candidates (all items) than"),
        ({"dataset": "ml-1m"}, "B (seed 1) ran on ml-1m, A (seed 1) on tiny: compare runs of one"),
    ):
        with pytest.raises(UserError, match=re.escape(fault)):
            check_comparable([run("A", 1, None), run("B", 1, None, **changes)])
    check_comparable([run("A", 1, None, candidates={}), run("B", 1, None, candidates={})])


def options(**changes):
    eval_args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": {"test": "uni2"}}
    return {
        "eval_args": {**eval_args, **changes.pop("eval_args", {})},
        "user_inter_num_interval": "[5,inf)",
        "item_inter_num_interval": "[0,inf)",
        "val_interval": None,
        "catalogue": "events",
        "tied_events": "file",
        "learning_rate": 0.001,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"eval_args": {"split": {"LS": "x"}}},
            "eval_args.split {'LS': 'x'}, A (seed 1) with {'LS': 'valid_and_test'}",
        ),
        ({"eval_args": {"order": "RO"}}, "eval_args.order RO, A (seed 1) with TO"),
        ({"tied_events": "random", "seed": 7}, "tied_events random, by data_seed 7, A (seed 1) with file"),
        ({"user_inter_num_interval": "[0,inf)"}, "user_inter_num_interval [0,inf), A (seed 1) with [5,inf)"),
        ({"item_inter_num_interval": "[3,inf)"}, "item_inter_num_interval [3,inf), A (seed 1) with [0,inf)"),
        (
            {"val_interval": {"rating": "[3,inf)"}, "catalogue": "items"},
            "val_interval {'rating': '[3,inf)'}, A (seed 1) with None\nB (seed 1) ran with catalogue items, A (seed 1)",
        ),
    ],
)
def test_runs_of_another_split_filter_or_catalogue_are_refused_with_both_values(changes, fault):
    a, b = run("A", 1, None, options=options()), run("B", 1, None, options=options(**changes))
    with pytest.raises(UserError, match=re.escape(f"B (seed 1) ran with {fault}")) as found:
        check_comparable([a, b])
    assert found.value.faults[-1] == "run all models of a comparison with the same split, order, filters and catalogue"
    check_comparable([b, run("C", 1, None, options=options(**changes))])


def test_a_drawn_order_of_tied_events_is_that_of_one_seed_and_older_results_have_the_files():
    drawn = options(tied_events="random", data_seed=7)
    check_comparable([run("A", 1, None, options=drawn), run("B", 2, None, options=drawn)])
    for other in (options(tied_events="random", data_seed=8), {"catalogue": "events"}):
        with pytest.raises(UserError, match="A .seed 1. with random, by data_seed 7"):
            check_comparable([run("A", 1, None, options=drawn), run("B", 2, None, options=other)])


def test_other_options_may_differ_and_other_programs_tell_none_which_hides_no_difference():
    a = run("A", 1, None, options=options())
    check_comparable([a, run("B", 1, None, options=options(learning_rate=0.1, eval_args={"mode": {"test": "file:x"}}))])
    check_comparable([run("NRMS", 0, None, options={}), a, run("Ours", 0, None)])
    with pytest.raises(UserError, match=re.escape("catalogue items, A (seed 1) with events")):
        check_comparable([run("NRMS", 0, None, options={}), a, run("B", 1, None, options=options(catalogue="items"))])


def test_runs_on_other_files_of_one_name_are_refused():
    a = run("A", 1, None, data_files={"tiny.inter": "6763eec1aaaaaaaa", "summaries.jsonl": "0"})
    check_comparable([a, run("B", 1, None, data_files={"tiny.inter": "6763eec1aaaaaaaa", "other.jsonl": "1"})])
    check_comparable([a, run("B", 1, None)])  # an older version, another program
    fault = "C (seed 1) read a different tiny.inter (982639cd) than A (seed 1) (6763eec1aaaa)"
    with pytest.raises(UserError, match=re.escape(fault)):
        check_comparable([run("B", 1, None), a, run("C", 1, None, data_files={"tiny.inter": "982639cd"})])
    texts = {"tiny.item": "1", "summaries.jsonl": "1"}
    check_comparable([run("A", 1, None, data_files=texts), run("B", 1, None, data_files={"summaries.jsonl": "2"})])
    with pytest.raises(UserError, match="A .seed 2. read a different summaries.jsonl"):
        check_comparable([run("A", 1, None, data_files=texts), run("A", 2, None, data_files={"summaries.jsonl": "2"})])


def test_runs_of_one_label_with_other_options_are_no_seeds_of_one_model():
    of_one = {"seed": 1, "seeds": [1], "retriever": "saved/x-1.pth", "backbone": "saved/a", "topk": [1]}
    of_two = {"seed": 2, "seeds": [2], "retriever": "saved/x-2.pth", "backbone": "saved/b", "topk": [1, 3]}
    one = run("GRU4Rec", 1, None, options=options(**of_one, enable_amp=False))
    two = run("GRU4Rec", 2, None, options=options(**of_two))  # older: knows no enable_amp
    check_comparable([one, two, run("GRU4Rec", 3, None)])
    check_comparable([one, run("GRU4Rec@slow", 2, None, options=options(learning_rate=0.01))])
    with pytest.raises(UserError, match=re.escape("GRU4Rec (seed 4) ran with backbone: builtin, not saved/a as")):
        check_comparable([one, run("GRU4Rec", 4, None, options=options(backbone="builtin"))])
    sizes = [
        run("LLMTRSR", seed, None, options=options(backbone=f"hub/{name}"), weights={"total": n, "trainable": 5})
        for seed, name, n in ((1, "small", 1000), (2, "large", 2000), (3, "small-tuned", 1000))
    ]
    check_comparable([sizes[0], sizes[2]])
    with pytest.raises(UserError, match=re.escape("LLMTRSR (seed 2) ran with 2,000 weights, not 1,000 as LLMTRSR (se")):
        check_comparable(sizes)
    other = run("GRU4Rec", 2, None, options=options(learning_rate=0.01, enable_amp=True))
    fault = (
        "GRU4Rec (seed 2) ran with enable_amp: True, not False; learning_rate: 0.01, not 0.001 as GRU4Rec (seed 1):"
        " runs of one name must be seeds of one model; give runs with other settings another name, such as"
        " GRU4Rec@other, when you run them or in the report: python -m recbole_llmtrsr.report"
        " GRU4Rec@other=<folder> ..."
    )
    with pytest.raises(UserError, match=re.escape(fault)):
        check_comparable([one, other])


def test_a_run_that_is_there_twice_is_refused():
    with pytest.raises(UserError, match="A with seed 1 is given twice: .*LLMTRSR@recurrent"):
        check_comparable([run("A", 1, None), run("A", 2, None), run("A", 1, None)])


LABELED = {"mode": {"valid": "labeled", "test": "labeled"}}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"threshold": {"rating": 4}}, "threshold {'rating': 4}, A (seed 1) with {'rating': 2}"),
        ({"LABEL_FIELD": "clicked"}, "LABEL_FIELD clicked, A (seed 1) with label"),
        ({"normalize_all": False}, "normalize_all False, A (seed 1) with True"),
        ({"rm_dup_inter": "last"}, "rm_dup_inter last, A (seed 1) with None"),
        ({"filter_inter_by_user_or_item": False}, "filter_inter_by_user_or_item False, A (seed 1) with True"),
        ({"alias_of_item_id": ["other_id"]}, "alias_of_item_id ['other_id'], A (seed 1) with None"),
        ({"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename ['a', 'b', 'c'], A (seed 1) with None"),
        ({"USER_ID_FIELD": "session_id"}, "USER_ID_FIELD session_id, A (seed 1) with user_id"),
        ({"TIME_FIELD": "date"}, "TIME_FIELD date, A (seed 1) with timestamp"),
        ({"RATING_FIELD": "stars"}, "RATING_FIELD stars, A (seed 1) with rating"),
        ({"encoding": "latin-1"}, "encoding latin-1, A (seed 1) with utf-8"),
        ({"eval_args": {**LABELED, "group_by": "none"}}, "eval_args.group_by none, A (seed 1) with user"),
        ({"eval_args": {"mode": {"test": "full"}}}, "eval_args.mode full, A (seed 1) with labeled"),
        ({"n_test": 11}, "number of test targets 11, A (seed 1) with 10"),
    ],
)
def test_runs_without_a_table_of_rows_must_have_one_protocol(changes, fault):
    told = {
        **{"threshold": {"rating": 2}, "LABEL_FIELD": "label", "normalize_all": True, "rm_dup_inter": None},
        **{"filter_inter_by_user_or_item": True, "alias_of_item_id": None, "benchmark_filename": None},
        **{"USER_ID_FIELD": "user_id", "TIME_FIELD": "timestamp", "RATING_FIELD": "rating"},
        "encoding": "utf-8",
    }
    n_test = changes.pop("n_test", 10)
    a = run("A", 1, None, candidates={}, n_test=10, options=options(eval_args=LABELED, **told))
    other = options(**{"eval_args": LABELED, **told, **changes})
    with pytest.raises(UserError, match=re.escape(f"B (seed 1) ran with {fault}")):
        check_comparable([a, run("B", 1, None, candidates={}, n_test=n_test, options=other)])


def test_models_differ_in_what_they_read_and_in_labels_where_none_are_predicted():
    own = {"load_col": {"item": ["title"]}, "MAX_ITEM_LIST_LENGTH": 9, "eval_batch_size": 7, "repeatable": True}
    own |= {"threshold": {"rating": 4}, "valid_metric": "AUC", "seed": 7}
    a = run("SASRec", 1, None, options=options(threshold=None, repeatable=False, load_col=None, seed=3))
    check_comparable([a, run("FM", 1, None, options=options(**own))])


@pytest.mark.parametrize("changes", [{"split": {"US": [8, 1, 1]}}, {"order": "RO", "split": {"RS": [8, 1, 1]}}])
def test_a_split_that_is_drawn_is_that_of_one_seed(changes):
    runs = [
        run(f"Pop{n}", 1, None, candidates={}, options=options(eval_args={**LABELED, **changes}, **seeds))
        for n, seeds in enumerate([{"seed": 1}, {"seed": 2, "data_seed": 1}, {"seed": 2, "data_seed": None}])
    ]
    check_comparable(runs[:2])
    with pytest.raises(UserError, match=re.escape("Pop2 (seed 1) ran with data_seed 2, Pop0 (seed 1) with 1")):
        check_comparable(runs)


def test_full_ranking_with_and_without_the_history_is_refused():
    full = {"mode": {"test": "full"}}
    kinds = {"Pop": "ModelType.GENERAL", "SASRec": "ModelType.SEQUENTIAL"}
    pop, sasrec = (
        run(label, 1, None, candidates={}, options=options(eval_args=full, exclude_seen="auto", MODEL_TYPE=kind))
        for label, kind in kinds.items()
    )
    with pytest.raises(UserError, match=re.escape("SASRec (seed 1) ran with exclude_seen no, Pop (seed 1) with yes")):
        check_comparable([pop, sasrec])
    kept = run("Pop@kept", 1, None, candidates={}, options=options(eval_args=full, exclude_seen="no"))
    check_comparable([sasrec, kept])


def test_one_candidate_set_makes_one_test_whatever_the_mode_is_called():
    a = run("A", 1, None, options=options(eval_args={"mode": {"test": "full"}}))  # a further test of it: also/uni2
    check_comparable([a, run("B", 1, None, options=options())])


def test_seeds_of_a_label_that_read_other_summaries_are_no_seeds_of_one_model():
    first, second = (run("LLMTRSR", n, None, summaries={"digest": digest}) for n, digest in ((1, "aa"), (2, "bb")))
    with pytest.raises(UserError, match=re.escape("LLMTRSR (seed 2) read other summaries than LLMTRSR (seed 1) (bb")):
        check_comparable([first, second])
    other = run("LLMTRSR@b", 1, None, summaries={"digest": "bb"})
    check_comparable([first, other, run("LLMTRSR", 3, None), run("Pop", 1, None, summaries={})])
