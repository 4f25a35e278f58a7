"""Retrieve, then re-rank, end to end: what the pair may change, and which retrievers are refused."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import toy

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.retrieval.trained import TrainedRetriever

N_USERS, N_EVENTS, N_ITEMS = 16, 7, 23
OF_LLMTRSR = {**toy.SMALL, "train_neg_sample_args": toy.TINY["train_neg_sample_args"], "rerank_top_k": 5}
TINY = {
    **{name: value for name, value in toy.TINY.items() if name not in {*OF_LLMTRSR, "candidate_exclusion"}},
    **{"epochs": 2, "summary": "none", "eval_args": {"mode": "full"}, "topk": [1, 5, 10], "train_batch_size": 64},
    **{f"LLMTRSR.{name}": value for name, value in OF_LLMTRSR.items()},
}
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def toy_in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = [f"u{u}\ti{(5 * u + t * (1 + u % 3)) % N_ITEMS}\t{t}" for u in range(N_USERS) for t in range(N_EVENTS)]
    write("toy", events)


def write(name, events, columns=""):
    items = [f"i{n}\tThe title of {n}" for n in range(N_ITEMS)]
    toy.write_atomic(Path("data") / name, events, items, of_events=columns)


def run(model, dataset="toy", **options):
    folder = f"out/{next(_numbers)}"
    (result,), _ = compare([model], dataset, config_dict={**TINY, "result_dir": folder, **options})
    return result, pd.read_csv(Path(folder) / "per_history.csv").drop(columns="trims", errors="ignore")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SASRec", "GRU4Rec", "BERT4Rec", "NARM"])
def test_without_a_share_of_the_language_model_the_retrievers_results_come_back(name):
    alone, rows = run(name)
    pair, own = run("LLMTRSR", retriever=alone["checkpoint"], blend=0)
    assert pair["test_result"] == alone["test_result"]
    assert pair["best_valid_result"] == alone["best_valid_result"]
    metrics = [column for column in rows if "@" in column or column == "rank"]
    assert len(metrics) > 9
    pd.testing.assert_frame_equal(own[metrics], rows[metrics])


def test_recall_at_the_top_is_the_ceiling_of_the_retriever():
    sasrec, _ = run("SASRec")
    pair, rows = run("LLMTRSR", retriever=sasrec["checkpoint"])
    ceiling = pair["reranking"]["recall_ceiling"]
    assert pair["test_result"]["recall@5"] == round(ceiling["test"], 4) == sasrec["test_result"]["recall@5"]
    assert pair["best_valid_result"]["recall@5"] == round(ceiling["valid"], 4)
    assert 0 < ceiling["test"] < 1
    assert pair["reranking"] == {
        "retriever": "SASRec",
        "retriever_checkpoint": sasrec["checkpoint"],
        "retriever_digest": hashlib.sha256(Path(sasrec["checkpoint"]).read_bytes()).hexdigest(),
        "top_k": 5,
        "blend": 1.0,
        "recall_ceiling": ceiling,
    }
    # Behind the top the retriever's order stands.
    assert pair["test_result"]["recall@10"] == sasrec["test_result"]["recall@10"]
    assert pair["test_result"] != sasrec["test_result"]


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"other")])
def test_a_retriever_is_told_as_the_file_that_was_loaded(tmp_path, change):
    path = tmp_path / "model.pth"
    path.write_bytes(b"weights")
    retriever = TrainedRetriever(torch.nn.Identity(), path)
    change(path)
    assert retriever.report()["retriever_digest"] == hashlib.sha256(b"weights").hexdigest()


def test_the_whole_catalogue_as_the_top_is_full_ranking_by_the_language_model_alone():
    alone, rows = run("LLMTRSR")
    pair, own = run("LLMTRSR", retriever="text", **{"LLMTRSR.rerank_top_k": N_ITEMS})
    assert pair["test_result"] == alone["test_result"]
    pd.testing.assert_frame_equal(own.filter(like="@"), rows.filter(like="@"))
    assert pair["reranking"]["recall_ceiling"] == {"valid": 1.0, "test": 1.0}


def test_a_tuned_blend_is_the_best_on_the_validation_set():
    sasrec, _ = run("SASRec")
    pair, _ = run("LLMTRSR", retriever=sasrec["checkpoint"], blend=None)
    scores = pair["reranking"]["blend_scores"]
    assert list(scores) == [str(i / 10) for i in range(11)]
    best = max(scores.values())
    assert pair["reranking"]["blend"] == min(float(share) for share, score in scores.items() if score == best)
    assert scores["0.0"] == sasrec["best_valid_score"]
    assert pair["best_valid_score"] == best == pair["best_valid_result"]["mrr@10"]
    checked, _ = run("LLMTRSR", retriever=sasrec["checkpoint"], blend=pair["reranking"]["blend"])
    assert checked["test_result"] == pair["test_result"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Pop", "BPR", "ItemKNN", "EASE", "LightGCN", "LLMSeqSim"])
def test_a_retriever_of_another_kind_comes_back_under_one_rule(name):
    alone, rows = run(name, exclude_seen="yes")
    for retriever in [alone["checkpoint"], {"Pop": "Pop", "LLMSeqSim": "text"}.get(name, alone["checkpoint"])]:
        pair, own = run("LLMTRSR", retriever=retriever, blend=0, exclude_seen="yes")
        assert pair["test_result"] == alone["test_result"]
        pd.testing.assert_frame_equal(own.filter(like="@"), rows.filter(like="@"))


@pytest.mark.parametrize("name", ["Pop", "BPR"])
def test_a_retriever_that_ranks_the_history_first_needs_a_rule(name):
    alone, _ = run(name)
    for retriever in {alone["checkpoint"], name if name == "Pop" else alone["checkpoint"]}:
        assert "set exclude_seen: yes (RecBole's rule for non-sequential models) or no" in refusal(retriever=retriever)


def test_a_graph_is_built_of_the_same_training_rows_also_under_a_random_order():
    by_chance = {"mode": "full", "order": "RO", "split": {"RS": [0.6, 0.2, 0.2]}}
    options = {"eval_args": by_chance, "exclude_seen": "yes", "data_seed": 3}
    alone, _ = run("LightGCN", **options)
    pair, _ = run("LLMTRSR", retriever=alone["checkpoint"], blend=0, **options)
    assert pair["test_result"] == alone["test_result"]
    assert "on another split" in refusal(retriever=alone["checkpoint"], **{**options, "data_seed": 4})


@pytest.mark.parametrize("name", ["NeuMF", "DIN"])
def test_a_retriever_that_cannot_rank_a_catalogue_is_refused(name):
    alone, _ = run(name, exclude_seen="yes", eval_args={"mode": "uni5"}, epochs=1)
    message = refusal(retriever=alone["checkpoint"], exclude_seen="yes")
    assert f"is a {name}, which cannot rank a whole catalogue at once" in message


PRETRAINING = {"train_stage": "pretrain", "pretrain_epochs": 1, "save_step": 1}


@pytest.mark.parametrize(("name", "options"), [("S3Rec", PRETRAINING), ("RaCT", {})])
def test_models_that_are_trained_in_stages_save_their_checkpoints(name, options):
    features = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}}
    run(name, exclude_seen="yes", item_attribute="title", **features, **options)


def test_a_checkpoint_of_a_run_holds_plain_values_alone():
    sasrec, _ = run("SASRec")
    saved = torch.load(sasrec["checkpoint"], weights_only=True)
    assert saved["config"]["model"] == "SASRec"
    assert saved["given_options"]["topk"] == [1, 5, 10]
    assert set(saved["identity"]) == {"users", "items", "held_out"}


def refusal(dataset="toy", **options):
    with pytest.raises(UserError) as refused:
        run("LLMTRSR", dataset, **options)
    return str(refused.value)


def test_a_retriever_of_other_items_is_refused():
    write("twin", [f"u{u}\ti{(5 * u + 2 * t) % N_ITEMS}\t{t}" for u in range(N_USERS) for t in range(N_EVENTS)])
    sasrec, _ = run("SASRec", "twin")
    checkpoint = sasrec["checkpoint"]
    assert "was trained on dataset 'twin', not 'toy'" in refusal(retriever=checkpoint)
    # The same name, other files: the same items in another order of appearance.
    Path("data/toy/toy.inter").write_text(Path("data/twin/twin.inter").read_text())
    Path("data/twin").rename("data/elsewhere")
    saved = torch.load(checkpoint, weights_only=True)
    saved["config"]["dataset"] = "toy"
    lines = Path("data/toy/toy.inter").read_text().splitlines()
    Path("data/toy/toy.inter").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    torch.save(saved, "renamed.pth")
    assert "was trained with other users and items than this run" in refusal(retriever="renamed.pth")


SEEN = {
    "another share": ({"eval_args": {"mode": "full", "split": {"RS": [0.2, 0.4, 0.4]}}}, {}),
    "validation in training": ({"eval_args": {"mode": "full", "split": {"LS": "test_only"}}}, {}),
    "later events": ({}, {"val_interval": {"timestamp": f"[0,{N_EVENTS - 2}]"}}),
    "one later event": ({}, {"val_interval": {"timestamp": f"[0,{N_EVENTS - 1})"}}),
    "another order": ({"TIME_FIELD": "backwards"}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SEEN)
def test_a_retriever_that_may_have_seen_the_targets_is_refused(case):
    rows = [(u, (5 * u + t * (1 + u % 3)) % N_ITEMS, t) for t in range(N_EVENTS) for u in range(5 * N_ITEMS)]
    write("many", [f"u{u}\ti{i}\t{t}\t{N_EVENTS - t}" for u, i, t in rows], "\tbackwards:float")
    load = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "backwards"]}}
    before, now = SEEN[case]
    sasrec, _ = run("SASRec", "many", **load, **before, epochs=1)
    message = refusal("many", retriever=sasrec["checkpoint"], **load, **now)
    assert "was trained on another split (eval_args, data_seed, filters or order of events), so its" in message


def test_users_split_by_another_seed_are_another_split():
    by_user = {"mode": "full", "split": {"US": [0.5, 0.25, 0.25]}}
    sasrec, _ = run("SASRec", eval_args=by_user, data_seed=1)
    message = refusal(retriever=sasrec["checkpoint"], eval_args=by_user, data_seed=2)
    assert "on another split" in message
    pair, _ = run("LLMTRSR", retriever=sasrec["checkpoint"], eval_args=by_user, data_seed=1, blend=0)
    assert pair["test_result"] == sasrec["test_result"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"retriever": "nowhere.pth"}, "'nowhere.pth' is none of them"),
        ({"retriever": "text", "LLMTRSR.rerank_top_k": 24}, "rerank_top_k: 24 exceeds the catalogue of 23 items"),
        ({"retriever": "text", "eval_args": {"mode": "uni5"}}, "ranks uni5 in validation and uni5 in the test: set"),
        (
            {"retriever": "text", "blend": None, "eval_args": {"mode": {"valid": "uni5", "test": "full"}}},
            "ranks uni5 in validation and full in the test (blend: ~ is tuned on the former)",
        ),
        (
            {"retriever": "text", "blend": None, "eval_args": {"mode": "full", "split": {"RS": [0.8, 0.0, 0.2]}}},
            "blend: ~ is tuned on the validation set, which is empty",
        ),
        ({"retriever": "text", "blend": 1.5}, "blend must be between 0 and 1, got 1.5"),
        ({"retriever": "text", "hard_negative_ratio": 1.5}, "hard_negative_ratio must be between 0 and 1, got 1.5"),
        ({"retriever": "text", "max_full_sort_scores": 79}, "16 histories x 5 items = 80 candidates"),
    ],
)
def test_what_does_not_go_together_is_refused(options, part):
    assert part in refusal(**options)


def test_an_empty_validation_set_has_no_ceiling():
    pair, _ = run("LLMTRSR", retriever="text", eval_args={"mode": "full", "split": {"RS": [0.8, 0.0, 0.2]}})
    assert list(pair["reranking"]["recall_ceiling"]) == ["test"]


def test_a_further_test_among_candidates_tells_of_no_retriever():
    run("LLMTRSR", retriever="text", also_test=["uni5"])
    (file,) = Path("out").glob("*/also/uni5/result.json")
    assert "reranking" not in json.loads(file.read_text())


def test_a_checkpoint_that_does_not_tell_its_origin_is_refused():
    torch.save({"state_dict": {}, "config": {"model": "SASRec"}}, "bare.pth")
    assert "does not record its training data" in refusal(retriever="bare.pth")
    Path("text.pth").write_text("none")
    assert "is damaged, truncated or not a checkpoint" in refusal(retriever="text.pth")


def test_other_windows_are_refused():
    sasrec, _ = run("SASRec", MAX_ITEM_LIST_LENGTH=4)
    assert "was configured for the last 4 events, but this run uses 50: set MAX_ITEM_LIST_LENGTH: 4" in refusal(
        retriever=sasrec["checkpoint"]
    )


@pytest.mark.parametrize("user", ["u0", "u1", "u2", "u3", "u4", "u5"])
def test_an_explanation_shows_the_items_that_were_ranked_anew(user):
    run("LLMTRSR", retriever="text", blend=0.5, explain=user)
    (page,) = Path("out").glob(f"*/explain-{user}.html")
    assert '<dt>blend</dt><dd dir="auto">0.5</dd>' in page.read_text()
    ranked = page.read_text().partition('<th class="rank"')[2]
    assert len(set(re.findall(r"<code[^>]*>(i\d+)</code>", ranked))) == 5


def test_training_meets_what_the_retriever_finds(monkeypatch):
    batches, calculate_loss = [], LLMTRSR.calculate_loss

    def watched(model, interaction):
        batches.append((model, interaction))
        return calculate_loss(model, interaction)

    monkeypatch.setattr(LLMTRSR, "calculate_loss", watched)
    sasrec, _ = run("SASRec")
    run("LLMTRSR", retriever=sasrec["checkpoint"], hard_negative_ratio=1.0, epochs=1, targets_per_prompt=2)
    names = ("user_id", "history_id", "item_id", "label")
    found = [row for _, rows in batches for row in zip(*(rows[name].tolist() for name in names), strict=True)]
    chosen = {(user, item): prompt for user, prompt, item, label in found if label == 1}  # items differ within a user
    negatives = [(prompt, chosen.get((user, item), -1)) for user, prompt, item, label in found if label == 0]
    assert len(negatives) > N_USERS
    assert [when for when in negatives if when[1] >= when[0]] == []
    for model, rows in batches:
        top = model.reranking.top(rows)[1]
        assert (top == rows["item_id"][:, None]).any(1)[rows["label"] == 0].all()


def test_a_model_of_the_comparison_retrieves_with_its_own_seed():
    options = {**TINY, "retriever": "SASRec", "blend": 0, "seeds": [1, 2], "result_dir": "out/pair"}
    results, _ = compare(["SASRec", "LLMTRSR"], "toy", config_dict=options)
    alone, pairs = results[:2], results[2:]
    assert [pair["test_result"] for pair in pairs] == [one["test_result"] for one in alone]
    assert alone[0]["test_result"] != alone[1]["test_result"]
    found = [pair["reranking"]["retriever_checkpoint"] for pair in pairs]
    assert found == [one["checkpoint"] for one in alone]


def test_without_training_a_retriever_of_the_comparison_is_not_asked_for():
    options = {**TINY, "retriever": "SASRec", "summary": "hierarchical", "result_dir": "out/dry"}
    found, _ = compare(["SASRec", "LLMTRSR"], "toy", config_dict={**options, "dry_run": True})
    assert "summary_cost" in found[1]
    found, _ = compare(["SASRec", "LLMTRSR"], "toy", config_dict={**options, "summarize_only": True})
    assert found[1]["summaries"]


@pytest.mark.parametrize(
    ("models", "options", "part"),
    [
        (["LLMTRSR", "SASRec"], {}, "retriever of LLMTRSR must be Pop, text, .*'SASRec' is none of them"),
        (["LLMTRSR"], {}, "'SASRec' is none of them"),
        (["SASRec", "LLMTRSR"], {"LLMTRSR.seed": 7}, "SASRec is not trained with the seed 7 of LLMTRSR"),
        (
            ["SASRec", "LLMTRSR"],
            {"SASRec.MAX_ITEM_LIST_LENGTH": 3},
            "was configured for the last 3 events, but this run uses 50",
        ),
        (["HLLM", "LLMTRSR"], {"retriever": "HLLM"}, "is a HLLM, which is a language model"),
        (["NeuMF", "LLMTRSR"], {"retriever": "NeuMF", "exclude_seen": "yes"}, "which cannot rank a whole catalogue"),
        (["BPR", "LLMTRSR"], {"retriever": "BPR", "LLMTRSR.exclude_seen": "auto"}, "BPR is not a sequential model"),
        (["LLMTRSR"], {"retriever": None, "hard_negative_ratio": 0.5}, "hard_negative_ratio needs a retriever"),
    ],
)
def test_a_retriever_that_cannot_serve_is_refused_before_anything_is_trained(models, options, part):
    given = {**TINY, "retriever": "SASRec", "result_dir": "out/none", **options}
    with pytest.raises(UserError, match=part):
        compare(models, "toy", config_dict=given)
    assert not Path("out/none").exists()


def test_a_retriever_that_is_not_saved_is_refused_before_it_is_trained():
    with pytest.raises(UserError, match="SASRec of this comparison is not saved: run with saved=True"):
        compare(["SASRec", "LLMTRSR"], "toy", config_dict={**TINY, "retriever": "SASRec"}, saved=False)
