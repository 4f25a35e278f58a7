"""The pipeline, end to end on a tiny data set: results, comparison, checkpoints, tuning."""

import hashlib
import json
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import pandas as pd
import pytest
import torch
import toy
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from recbole_llmtrsr.__main__ import main
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command
from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, write_candidate_file
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import load_runs
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.quick_start import compare, compared_runs, objective_function, run_recbole_llmtrsr
from recbole_llmtrsr.registry import get_dataset, get_model

OF_LLMTRSR = {name for name in toy.TINY if name.startswith("builtin_")} | {"train_neg_sample_args"}
TINY = {
    **{f"LLMTRSR.{name}" if name in OF_LLMTRSR else name: value for name, value in toy.TINY.items()},
    "train_batch_size": 64,
    "eval_batch_size": 64,
}
SMALL_ML = {**TINY, "data_path": "dataset/", "user_inter_num_interval": "[400,inf)", "eval_args": {"mode": "uni20"}}
COMPARISON = {"comparison.json", "comparison.md", "comparison.csv", "comparison.tex", "report.html"}
KEYS = {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result", "folder"}


@pytest.fixture(autouse=True)
def toy_in_empty_folder(tmp_path, monkeypatch):
    """Eight users, thirteen items with titles and kinds."""
    monkeypatch.chdir(tmp_path)
    items = [f"{title}\t{'drama' if n % 2 else 'comedy'}" for n, title in enumerate(toy.TITLES)]
    toy.write_atomic(tmp_path / "data" / "toy", toy.toy_events(*range(4, 12)), items, of_items="\tkind:token")
    return tmp_path


def test_one_model_returns_recboles_keys_and_the_folder_of_a_complete_result(tmp_path):
    returned = run_recbole_llmtrsr("LLMTRSR", "toy", config_dict={**TINY, "result_dir": "out"})
    assert set(returned) == KEYS
    assert returned["folder"] == Path("out")
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["test_result"] == returned["test_result"]
    assert result["n_test"] == 8
    assert result["n_items"] == 13
    assert result["candidates"]["test"]["n_per_history"] == 4
    assert len(result["candidates"]["test"]["hash"]) == 64
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.rglob("toy.*")}
    assert set(files) == {"toy.inter", "toy.item"}
    assert result["data_files"] == files
    assert result["weights"]["total"] == result["weights"]["trainable"] > 0
    assert result["tokens"]["train"] > 0 < result["tokens"]["evaluation"]
    assert result["trims"]["prompts"] == sum(3 + u for u in range(8))  # every history but the user's empty one
    assert result["options"]["block_size"] == 5
    assert result["options"]["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert result["versions"]["recbole"] == "1.2.1"
    assert set(result["seconds"]) == {"data", "summaries", "model", "training", "evaluation"}


def test_several_models_meet_on_one_candidate_set_in_one_table(tmp_path):
    models = ["LLMTRSR", "SASRec", "GRU4Rec", "Pop"]
    results, folder = compare(models, "toy", config_dict=TINY)
    assert [r["model"] for r in results] == models
    assert len({r["candidates"]["test"]["hash"] for r in results}) == 1
    assert len({r["candidates"]["valid"]["hash"] for r in results}) == 1
    assert [r["n_test"] for r in results] == [8, 8, 8, 8]
    table = (folder / "comparison.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1].strip() for line in table[4:9]] == [*models, "random ranking"]
    written = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in written["rows"]] == models
    assert {(test["first"], test["second"]) for test in written["tests"]} == set(combinations(models, 2))
    assert all((folder / name / "result.json").is_file() for name in models)


TIMES = ("seconds", "cost", "checkpoint", "command")  # a checkpoint is named by the time, a command names the folder


def without_times(path):
    result = {key: value for key, value in json.loads(path.read_text()).items() if key not in TIMES}
    result["options"].pop("result_dir")
    result["summaries"].pop("seconds")
    for validation in result["validations"]:
        assert validation.pop("seconds") > 0
    return result


def test_the_same_run_twice_gives_the_same_result_but_for_times(tmp_path):
    for folder in ("first", "second"):
        options = {**TINY, "summary_store": None, "ablations": True, "result_dir": folder}
        run_recbole_llmtrsr("LLMTRSR", "toy", config_dict=options)
    assert without_times(tmp_path / "first" / "result.json") == without_times(tmp_path / "second" / "result.json")
    tables = [path.relative_to(tmp_path / "first") for path in sorted((tmp_path / "first").rglob("*.csv"))]
    assert len(tables) == 7
    for table in tables:
        assert (tmp_path / "first" / table).read_bytes() == (tmp_path / "second" / table).read_bytes()


def test_seeds_share_split_and_candidates_and_become_one_row_each_model(tmp_path):
    options = {**TINY, "seeds": [3, 1], "result_dir": "out", "report": True}
    results, folder = compare(["LLMTRSR", "Pop"], "toy", config_dict=options)
    assert [(r["label"], r["seed"]) for r in results] == [("LLMTRSR", 3), ("LLMTRSR", 1), ("Pop", 3), ("Pop", 1)]
    assert len({r["candidates"]["test"]["hash"] for r in results}) == 1
    assert {r["options"]["data_seed"] for r in results} == {3}
    assert results[0]["train_loss"] != results[1]["train_loss"]
    comparison = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    llm, pop = comparison["rows"]
    assert (llm["seeds"], pop["seeds"]) == ([3, 1], [3, 1])
    means = [r["test_result"]["recall@10"] for r in results[:2]]
    assert llm["metrics"]["recall@10"]["mean"] == pytest.approx(sum(means) / 2, abs=1e-4)
    assert pop["metrics"]["recall@10"]["spread"] == 0
    for label, seed in product(("LLMTRSR", "Pop"), (1, 3)):
        assert (folder / label / f"seed-{seed}" / "per_history.csv").is_file()
    assert {path.name for path in folder.iterdir()} == {*COMPARISON, "LLMTRSR", "Pop", "run.json", ".run.lock"}


def test_a_trained_model_is_tested_among_other_candidates_too(tmp_path):
    options = {**TINY, "also_test": ["pop4", "match2"], "result_dir": "out", "report": True, "epochs": 2}
    results, folder = compare(["LLMTRSR", "Pop"], "toy", config_dict=options)
    of_pop4 = {**options, "also_test": [], "eval_args": {"mode": "pop4"}, "result_dir": "alone"}
    alone, _ = compare(["LLMTRSR"], "toy", config_dict=of_pop4)
    for mode, n_candidates in (("pop4", 5), ("match2", 3)):
        files = [folder / name / "also" / mode / "result.json" for name in ("LLMTRSR", "Pop")]
        tested = [json.loads(file.read_text()) for file in files]
        drawn = [result["candidates"]["test"] for result in tested]
        assert {(one["mode"], one["n_per_history"]) for one in drawn} == {(mode, n_candidates)}
        assert drawn[0]["hash"] == drawn[1]["hash"]
        # All but the test is the run's own.
        assert tested[0]["train_loss"] == results[0]["train_loss"]
        assert tested[0]["candidates"]["valid"] == results[0]["candidates"]["valid"]
        assert tested[0]["tokens"] == results[0]["tokens"]
        assert {path.name for path in (folder / "also" / mode).iterdir()} == COMPARISON
    assert results[0]["candidates"]["test"]["mode"] == "uni3"
    assert 'href="also/pop4/report.html"' in (folder / "report.html").read_text(encoding="utf-8")
    # The same weights would be tested alone: candidates of the test have no part in training.
    of_pop4 = json.loads((folder / "LLMTRSR" / "also" / "pop4" / "result.json").read_text())
    assert of_pop4["candidates"]["test"]["hash"] == alone[0]["candidates"]["test"]["hash"]
    loaded = [(run.label, run.result["candidates"]["test"]["mode"]) for run in load_runs(folder)]
    assert loaded == [("LLMTRSR", "uni3"), ("Pop", "uni3")]
    assert [run.label for run in load_runs(folder / "LLMTRSR" / "also" / "pop4")] == ["LLMTRSR"]


def test_after_a_split_by_user_each_test_user_has_one_target_but_all_impressions(tmp_path):
    events = [f"u{u}\ti{(3 * u + 7 * t) % 13}\t{t}" for u in range(8) for t in range(4 + u)]
    sequences = {}
    for line in events:
        user, item, _ = line.split("\t")
        sequences.setdefault(user, []).append(item)
    rows = [
        (user, n, [items[n]], [i for i in ("i0", "i1", "i2", "i3") if i != items[n]])
        for user, items in sequences.items()
        for n in (1, 3)
    ]
    write_candidate_file(tmp_path / "data" / "toy" / "toy.impressions.npz", CandidateFile.from_rows(rows))
    options = {**TINY, "eval_args": {"split": {"US": [5, 1, 2]}, "mode": "uni3"}, "also_test": ["impressions"]}
    results, folder = compare(["SASRec", "Pop"], "toy", config_dict={**options, "result_dir": "out"})
    assert [r["n_test"] for r in results] == [2, 2]
    assert [r["n_valid"] for r in results] == [1, 1]
    shown = json.loads((folder / "Pop" / "also" / "impressions" / "result.json").read_text())
    assert shown["n_test"] == 4
    assert len(pd.read_csv(folder / "Pop" / "also" / "impressions" / "per_history.csv")["user_id"].unique()) == 2


def test_an_impression_is_as_known_as_its_most_clicked_target(tmp_path):
    chosen = {f"u{u}": [*(f"i{(3 * u + 7 * t) % 13}" for t in range(4 + u)), "i4"] for u in range(8)}
    toy.write_atomic(tmp_path / "data" / "toy", toy.events_of(chosen))
    clicked = {(user, n): {items[n], "i4"} for user, items in chosen.items() for n in (1, 3)}
    rows = [(*row, sorted(both), [i for i in ("i0", "i1", "i2") if i not in both]) for row, both in clicked.items()]
    write_candidate_file(tmp_path / "data" / "toy" / "toy.impressions.npz", CandidateFile.from_rows(rows))
    eval_args = {"split": {"US": [6, 0, 2]}, "mode": {"valid": "uni3", "test": "impressions"}}
    _, folder = compare(["Pop"], "toy", config_dict={**TINY, "eval_args": eval_args, "result_dir": "out"})

    table = pd.read_csv(folder / "per_history.csv")
    trained = [items for user, items in chosen.items() if user not in set(table["user_id"])]
    counts = Counter(item for items in trained for item in items)
    assert len(trained) == 6
    found = dict(zip(zip(table["user_id"], table["n_events"]), table["target_popularity"]))
    assert found == {row: max(counts[item] for item in clicked[row]) for row in found}
    assert table["target_popularity"].tolist() != [counts[item] for item in table["target"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"also_test": ["full"]}, "also_test names 'full', which has no candidate set"),
        ({"also_test": ["uni3"]}, "also_test names 'uni3', which is already the mode of the test"),
        ({"also_test": ["uni03"]}, "also_test names 'uni3', which is already the mode of the test"),
        ({"also_test": ["pop2", "pop02"]}, "also_test names 'pop2' twice"),
        ({"also_test": ["impressions"]}, "impressions .* need a split by user"),
        ({"also_test": ["unix"]}, "eval_args mode must be uni<n>"),
        (
            {"also_test": ["uni2"], "metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}},
            "also_test",
        ),
    ],
)
def test_other_candidates_that_cannot_be_are_refused_first(options, message):
    with pytest.raises(UserError, match=message):
        compare(["Pop"], "toy", config_dict={**TINY, **options})


def test_one_model_may_run_as_several_variants():
    options = {**TINY, "LLMTRSR@recurrent.summary": "recurrent"}
    results, folder = compare(["LLMTRSR", "LLMTRSR@recurrent"], "toy", config_dict=options)
    assert [(r["label"], r["model"], r["options"]["summary"]) for r in results] == [
        ("LLMTRSR", "LLMTRSR", "hierarchical"),
        ("LLMTRSR@recurrent", "LLMTRSR", "recurrent"),
    ]
    assert (folder / "LLMTRSR@recurrent" / "result.json").is_file()


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["Pop", "Pop"], {}, "named twice in Pop, Pop.*Pop@recurrent"),
        (["Pop"], {"seeds": [1, 1]}, "seeds names one twice"),
        (["Pop", "SASRec"], {"seeds": [1, 2], "SASRec.seeds": [1]}, "seeds must be the same for all models"),
        (["Pop", "Pop@b"], {"Pop@c.epochs": 1}, "options name 'Pop@c', which is not compared"),
        (["TALLRec"], {"summary": "recurrent"}, "summary must be none for TALLRec"),
        (["LLMTRSR"], {"seeds": [1, 2], "checkpoint": __file__}, "checkpoint belongs to one model and one seed"),
        (["Pop"], {"seeds": []}, "seeds names none"),
        (["Pop", "SASRec"], {"Pop.also_test": ["pop2"]}, "also_test must be the same for all models"),
        (["Pop", "SASRec"], {"SASRec.result_dir": "x"}, "result_dir must be the same for all models"),
        (
            ["Pop", "Pop@b"],
            {
                **{"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}},
                **{"threshold": {"timestamp": 2}, "Pop@b.threshold": {"timestamp": 4}},
            },
            r"Pop@b, seed 2020 runs with threshold \{'timestamp': 4\}, Pop, seed 2020 with .*so set it for all models",
        ),
        (["Pop", "SASRec"], {"SASRec.catalogue": "items"}, "SASRec, seed 2020 runs with catalogue items, Pop"),
        (
            ["SASRec", "Pop"],
            {"eval_args": {"mode": "full"}},
            "full ranking would leave a user's history out for Pop and not for SASRec",
        ),
    ],
)
def test_what_makes_no_sense_for_several_runs_is_refused(models, options, message):
    with pytest.raises(UserError, match=message):
        compare(models, "toy", config_dict={**TINY, **options})


def test_results_of_two_commands_do_not_meet_in_one_folder(tmp_path):
    compare(["Pop"], "toy", config_dict={**TINY, "result_dir": "out"})
    before = (tmp_path / "out" / "result.json").read_text()
    with pytest.raises(UserError, match=r"result_dir out holds results already \(out/result\.json\)"):
        compare(["Pop"], "toy", config_dict={**TINY, "seed": 1, "result_dir": "out"})
    assert (tmp_path / "out" / "result.json").read_text() == before


def test_runs_before_one_that_fails_keep_their_results_and_their_comparison(tmp_path):
    options = {**TINY, "result_dir": "out", "report": True, "GRU4Rec.seed": 1}
    with pytest.raises(UserError, match="would rank other valid candidates"):
        compare(["Pop", "SASRec", "GRU4Rec"], "toy", config_dict=options)
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))["rows"]
    assert [row["label"] for row in rows] == ["Pop", "SASRec"]
    assert (tmp_path / "out" / "report.html").is_file()
    assert not (tmp_path / "out" / "GRU4Rec").exists()


def test_a_backbone_too_large_for_the_memory_ends_with_the_remedy_and_the_results_before_it(tmp_path, monkeypatch):
    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 14.00 GiB.")

    monkeypatch.setattr("recbole_llmtrsr.model.sequential_recommender.llmtrsr.LLMTRSR.to", no_room)
    with pytest.raises(UserError, match="LLMTRSR does not fit into the memory of cpu: choose a smaller backbone"):
        compare(["Pop", "LLMTRSR"], "toy", config_dict={**TINY, "result_dir": "out"})
    assert (tmp_path / "out" / "Pop" / "result.json").is_file()
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))["rows"]
    assert [row["label"] for row in rows] == ["Pop"]


def test_a_test_that_fails_among_other_candidates_costs_no_result(tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr("recbole_llmtrsr.experiment.pipeline.FinalTest.among", fail)
    with pytest.raises(MemoryError):
        compare(["Pop"], "toy", config_dict={**TINY, "also_test": ["pop2"], "result_dir": "out"})
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["test_result"]["recall@10"] == 1
    assert (tmp_path / "out" / "per_history.csv").is_file()


def test_every_run_has_a_checkpoint_of_its_own(tmp_path):
    results, _ = compare(["Pop", "Pop@b"], "toy", config_dict={**TINY, "seeds": [1, 2]})
    paths = [result["checkpoint"] for result in results]
    assert len(set(paths)) == 4
    assert all((tmp_path / path).is_file() for path in paths)
    assert "Pop@b-seed-2-" in paths[3]


def test_pop_counts_what_training_may_see():
    results, _ = compare(["Pop"], "toy", config_dict=TINY)
    counted = torch.load(results[0]["checkpoint"], weights_only=False)["other_parameter"]["item_cnt"]
    config = Config(get_model("Pop"), "toy", [], TINY)
    dataset = get_dataset(get_model("Pop"))(config)
    dataset.build()
    assert counted[:, 0].tolist() == dataset.popularity.tolist()


def test_a_seed_beside_seeds_is_refused():
    command = Command(flags={"seed": "1", "seeds": "[1,2]"})
    with pytest.raises(UserError, match=r"seed 1 and seeds \[1, 2\] are both set"):
        compared_runs(["Pop"], "toy", config_dict=TINY, command=command)


def test_the_hyper_tuning_objective_reads_model_and_data_set_from_its_dictionary():
    found = objective_function({**TINY, "model": "LLMTRSR", "dataset": "toy"})
    assert set(found) == {"model", *KEYS}
    assert found["model"] == "LLMTRSR"


def test_the_command_line_prints_the_table_and_where_the_results_lie(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    flags = ["--model=LLMTRSR,Pop", "--dataset=toy", "--result_dir=out"]
    flags += [f"--{name}={value}" for name, value in TINY.items()]
    assert main(flags) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "results: out"
    assert any(line.startswith("LLMTRSR ") for line in printed)
    assert any(line.startswith("model ") and "mrr@10 [95 % interval]" in line for line in printed)
    assert "  tables       comparison.md, comparison.csv, comparison.tex, comparison.json" in printed
    assert max(map(len, printed)) <= 80


LLAMA_LIKE = {
    **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 2048},
}
FOLDERS = {
    "llama": lambda size: LlamaForCausalLM(LlamaConfig(vocab_size=size, **LLAMA_LIKE)),
    "qwen": lambda size: Qwen2ForCausalLM(Qwen2Config(vocab_size=size, **LLAMA_LIKE)),
    "gpt2": lambda size: GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=16, n_layer=2, n_head=4, n_positions=2048)),
}


def save_backbone(kind, folder):
    tokenizer = train_tokenizer(["The title of"], 300, [" yes", " no"])
    torch.manual_seed(0)
    FOLDERS[kind](len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_loads_trains_with_lora_and_reloads_to_the_same_scores(tmp_path, kind):
    save_backbone(kind, tmp_path / kind)
    options = {**TINY, "backbone": str(tmp_path / kind), "max_prompt_tokens": 900, "learning_rate": 0.05}
    first, folder = compare(["LLMTRSR"], "toy", config_dict={**options, "result_dir": "first"})
    assert first[0]["attention"] == "flash"
    assert 0 < first[0]["weights"]["trainable"] < first[0]["weights"]["total"] / 2

    checkpoint = torch.load(first[0]["checkpoint"], weights_only=True)
    assert checkpoint["state_dict"]
    assert all("lora_" in name for name in checkpoint["state_dict"])
    assert any(weight.abs().max() > 0 for name, weight in checkpoint["state_dict"].items() if "lora_B" in name)
    adapter = load_file(tmp_path / first[0]["checkpoint"].removesuffix(".pth") / "adapter_model.safetensors")
    assert len(adapter) == len(checkpoint["state_dict"])

    model_class = get_model("LLMTRSR")
    config = Config(model_class, "toy", [], options)
    dataset = get_dataset(model_class)(config)
    (train, _, test), *_ = make_loaders(config, dataset)
    dataset.set_summaries({i: "a summary" for i in range(200)})
    scores = []
    for _ in range(2):
        model = model_class(config, train._dataset).eval()
        model.load_state_dict(checkpoint["state_dict"])
        with torch.no_grad():
            scores.append(model.predict(next(iter(test))[0]))
    assert torch.equal(scores[0], scores[1])

    options |= {"checkpoint": first[0]["checkpoint"], "result_dir": "again"}
    again, _ = compare(["LLMTRSR"], "toy", config_dict=options)
    assert again[0]["epochs_trained"] == 0
    assert again[0]["test_result"] == first[0]["test_result"]


def test_training_continues_where_a_checkpoint_stopped():
    first, _ = compare(["LLMTRSR"], "toy", config_dict=TINY)
    more, _ = compare(["LLMTRSR"], "toy", config_dict={**TINY, "epochs": 3, "checkpoint": first[0]["checkpoint"]})
    assert list(more[0]["train_loss"]) == ["1", "2"]


def test_full_ranking_works_and_is_refused_above_its_limit():
    options = {**TINY, "eval_args": {"mode": "full"}, "topk": [10, 13]}
    result = run_recbole_llmtrsr("LLMTRSR", "toy", config_dict=options)["test_result"]
    assert result["recall@13"] == 1.0  # thirteen items in all
    with pytest.raises(UserError, match=r"8 histories x 13 items = 104 .* more than max_full_sort_scores: 103"):
        run_recbole_llmtrsr("LLMTRSR", "toy", config_dict={**options, "max_full_sort_scores": 103})


def test_training_without_negatives_is_refused():
    with pytest.raises(UserError, match="set train_neg_sample_args"):
        run_recbole_llmtrsr("LLMTRSR", "toy", config_dict={**TINY, "LLMTRSR.train_neg_sample_args": None})


@pytest.mark.slow
def test_a_context_aware_model_of_recbole_keeps_the_settings_that_recbole_has_for_it():
    result = run_recbole_llmtrsr("FM", "ml-100k", config_dict=SMALL_ML)
    assert 0 < result["test_result"]["recall@10"] <= 1


@pytest.mark.slow
def test_a_model_that_pickles_its_data_set_can_be_saved():
    assert set(run_recbole_llmtrsr("DIN", "ml-100k", config_dict=SMALL_ML)) == KEYS


def test_a_bad_backbone_is_refused_before_summaries_and_leaves_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    options = {**TINY, "backbone": str(tmp_path / "empty"), "result_dir": "out", "summarizer": str(tmp_path / "none")}
    with pytest.raises(UserError, match=r"backbone '.*empty' has no config\.json"):
        run_recbole_llmtrsr("LLMTRSR", "toy", config_dict=options)
    assert not (tmp_path / "out").exists()


def test_a_prompt_longer_than_the_backbones_positions_is_refused(tmp_path):
    save_backbone("gpt2", tmp_path / "gpt2")
    options = {**TINY, "backbone": str(tmp_path / "gpt2"), "max_prompt_tokens": 4000}
    with pytest.raises(UserError, match="max_prompt_tokens: 4000 is more than the 2048 positions"):
        run_recbole_llmtrsr("LLMTRSR", "toy", config_dict=options)
