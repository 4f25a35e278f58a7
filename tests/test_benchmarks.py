"""The engine's benchmarks, at toy size: that they run, and what their figures mean."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from recbole_llmtrsr.config import sources
from recbole_llmtrsr.data.candidates.candidate_file import CandidateFile, write_candidate_file
from recbole_llmtrsr.data.loaders import prefetch
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.engine import scorer, scoring
from recbole_llmtrsr.engine.exactness import choose_attention
from recbole_llmtrsr.engine.operations import Work
from recbole_llmtrsr.llm.backbone import load_backbone
from recbole_llmtrsr.model.item_encoder import ItemEncoder
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.registry import get_dataset, get_model
from recbole_llmtrsr.training import trainer

pytestmark = pytest.mark.slow  # what they measure is claimed of the product, and is not the product
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = ["--builtin_hidden_size=16", "--builtin_n_layers=1", "--builtin_n_heads=2", "--builtin_vocab_size=400"]
CPU = torch.device("cpu")
CLEAR_REFS = Path("/proc/self/clear_refs")
needs_a_peak_that_can_be_reset = pytest.mark.skipif(
    not os.access(CLEAR_REFS, os.W_OK), reason=f"{CLEAR_REFS} is not writable, so the peak of a part cannot be told"
)

Run = Callable[..., str]


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a module of benchmarks/common."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"common.{name}")


@pytest.fixture
def run(
    common: Callable[[str], Any],
    atomic_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """Runs a script on the tiny data set and returns what it prints; its threads and seeds go with it."""
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state(), random.getstate()

    def run(script: str, *flags: str) -> str:
        data = ["--data=tiny", f"--data_path={atomic_folder}", "--eval_args={'mode': 'uni2'}", "--threads=1"]
        given = {flag.partition("=")[0] for flag in flags}
        others = [flag for flag in [*data, *SMALL] if flag.partition("=")[0] not in given]
        monkeypatch.setattr(sys, "argv", [script, *others, *flags])
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(before[0])
    torch.set_rng_state(before[1])
    np.random.set_state(before[2])
    random.setstate(before[3])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(printed: str, first: str) -> list[list[str]]:
    """Cells of the lines that begin with a cell."""
    return [cells(line) for line in printed.splitlines() if re.match(rf"\| {first}", line)]


def test_every_way_to_score_and_to_train_is_in_the_tables(run):
    small = ["--candidates", "2", "3", "--n_histories=3", "--repetitions=1", "--n_authors=1", "--shape=64x2"]
    printed = run("engine.py", *small, "--backends", "flash", "split", "cached_prefix", "--train", "--negatives", "1")

    names = [line[0] for line in map(cells, printed.splitlines()) if line[0].startswith(("ours", "plain", "cached"))]
    scored = ["ours, flash", "ours, split", "ours, cached_prefix", "plain rows", "cached prefix"]
    assert names == [*scored, *scored, "ours, flash", "ours, split", "plain rows"]
    assert len(rows(printed, r"authors' procedure \(scaled from 1 prompts\)")) == 2
    # 4 projections of 64 x 64 and 3 of 64 x 192 in each layer, twice their elements
    assert "64x2: hidden size 64, 2 layers, random weights, float32; 0.21 M operations per token" in printed


def test_adapters_in_bfloat16_are_measured_with_the_back_end_that_the_check_picks(run):
    small = ["--candidates", "2", "--n_histories=2", "--repetitions=1", "--n_authors=1", "--shape=64x2"]
    printed = run("engine.py", *small, "--train", "--negatives", "1", "--lora", "--dtype=bfloat16")

    # and 4 pairs of 64 x 8 in each layer
    assert "random weights, bfloat16, LoRA; 0.23 M operations per token" in printed
    assert len(rows(printed, "ours, ")) == 2


def test_a_line_is_fitted_through_the_times(run):
    printed = run("engine_scaling.py", "--candidates", "3", "30", "90", "--n_histories=1", "--repetitions=1", "--users")

    assert [row[0] for row in rows(printed, r"\d")] == ["3", "30", "90"]
    assert re.search(r"ms = -?\d+\.\d+ \+ -?\d+\.\d{4} x candidates; R2 [01]\.\d{5}; the largest residual is", printed)


@needs_a_peak_that_can_be_reset
def test_memory_is_that_which_the_evaluation_adds(run):
    users, _, before, most, added = rows(run("engine_scaling.py", "--memory_of=40", "--n_events=4"), "40")[0]

    assert users == "40"
    assert float(most.replace(",", "")) - float(before.replace(",", "")) == pytest.approx(float(added), abs=0.11)
    assert float(added) > 0


@needs_a_peak_that_can_be_reset
@pytest.mark.slow
def test_each_number_of_users_is_evaluated_in_a_process_of_its_own(run, warm_python, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS.parent))  # for the processes, which the test's path does not reach
    printed = run(
        "engine_scaling.py", "--candidates", "--n_events=4", "--topk=[3]", "--valid_metric=MRR@3", "--users", "2", "4"
    )

    assert [row[0] for row in rows(printed, r"\d")] == ["2", "4"]


def test_memory_of_a_part_that_the_system_does_not_tell_is_refused_with_a_remedy(common, monkeypatch):
    memory = common("memory")
    monkeypatch.setattr(memory, "reset_peak_memory", lambda device: "whole process, since it began")

    with pytest.raises(SystemExit, match="only that of the whole process, since it began: run on Linux .* --device=c"):
        memory.in_use(CPU)


def test_fewer_negatives_than_the_candidates_need_are_refused(run):
    with pytest.raises(SystemExit, match="need 3 negatives per history, but --eval_args gives 2: .* mode to uni3"):
        run("engine.py", "--candidates", "2", "4", "--n_histories=2")


def test_plain_rows_are_no_back_end_of_ours(run, capsys):
    with pytest.raises(SystemExit):
        run("engine.py", "--backends", "plain")
    assert "invalid choice: 'plain' (choose from" in capsys.readouterr().err


def test_the_parts_of_an_evaluation_and_of_training_add_up(run, monkeypatch):
    for owner, name in (
        (prefetch, "prefetched"),
        (trainer, "prefetched"),
        (scorer, "shared_prefix_rows"),
        (scoring, "shared_prefix_rows"),
        (scorer.Scorer, "scores"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # the script wraps them; put back afterwards
    _, *evaluations, overlapped, plain_loop = run("evaluation_profile.py").split("\ntiny, ")

    parts = (*evaluations, overlapped, plain_loop)
    loops = ["prompts on a second thread", "a plain loop"]
    assert [part.splitlines()[0].split("; ")[1] for part in parts] == loops * 2
    for printed in parts:
        inside = ["the backbone's forward", *(["backward"] if printed not in evaluations else [])]
        shares = {row[0]: float(row[2].rstrip("%")) for row in rows(printed, r"(the|wait|div|lay|answer|Rec|back|opt)")}
        assert sum(shares.values()) == pytest.approx(100, abs=1)
        assert all(shares[name] > 0 for name in inside)


def test_a_ratio_stands_beside_its_ceiling(common, capsys):
    report = common("report")
    ours = report.Line("ours", 4096, 100, [1.0, 2.0, 4.0], (10**9, 10**9), 0.0)
    other = report.Line("other", 8, 700, [4.0, 10.0, 8.0], (5 * 10**9, 8 * 10**9), 2e-6)

    report.table([ours, other], n_histories=2, peak=2.0)

    first, second = rows(capsys.readouterr().out, "(ours|other)")
    assert first[:7] == ["ours", "4,096", "100", "1000.0 (500.0 - 2000.0)", "0.5", "25%", "1"]
    assert second == [
        "other", "8", "700", "4000.0 (2000.0 - 5000.0)", "1.0", "50%",
        "4.00 (2.00 - 5.00)", "5.00", "80%", "8.00", "50%", "2e-06",
    ]  # fmt: skip


def test_sizes_are_tried_until_they_clearly_do_not_pay(common, monkeypatch):
    timing, tried = common("timing"), []
    seconds = {1: 9.0, 2: 6.0, 4: 7.0, 8: 9.0, 16: 1.0}
    monkeypatch.setattr(timing, "timed", lambda device, call: (seconds[call()], None))

    assert timing.fastest_size(CPU, "a way", lambda size: tried.append(size) or size, list(seconds)) == 2
    assert tried == [1, 1, 2, 4, 8]  # the first once to warm up


def test_the_first_turn_is_not_counted(common, monkeypatch):
    timing, order = common("timing"), []
    monkeypatch.setattr(timing, "timed", lambda device, call: (float(len(order)), order.append(call())))

    calls = {"a": lambda size: "a", "b": lambda size: "b"}
    seconds, _, sizes = timing.by_turns(CPU, calls, {"a": 1, "b": 8}, repetitions=2)

    assert sizes == {"a": 1, "b": 8}
    assert order == ["a", "b"] * 3
    assert seconds == {"a": [2.0, 4.0], "b": [3.0, 5.0]}


def out_of_memory_above(most: int) -> Callable[[int], int]:
    def call(size: int) -> int:
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return size

    return call


def test_a_way_that_is_out_of_memory_goes_on_with_half_its_batch_size(common, capsys):
    seconds, results, sizes = common("timing").by_turns(CPU, {"a": out_of_memory_above(3)}, {"a": 8}, repetitions=2)

    assert (len(seconds["a"]), results, sizes) == (2, {"a": 2}, {"a": 2})
    assert "a: out of memory, continuing with a batch size of 2\n" in capsys.readouterr().out


def test_a_way_that_is_out_of_memory_with_a_batch_of_one_ends_with_a_remedy(common):
    timing = common("timing")
    message = "a way: out of memory with a batch size of 1: choose a smaller --shape or fewer --candidates"

    with pytest.raises(SystemExit, match=message):
        timing.by_turns(CPU, {"a way": out_of_memory_above(0)}, {"a way": 2}, repetitions=1)
    with pytest.raises(SystemExit, match=message):
        timing.fastest_size(CPU, "a way", out_of_memory_above(0), [1, 2])


def some_prompts(common: Callable[[str], Any], n_histories: int, n_candidates: int) -> Any:
    """Prefixes of 1, 2, ... tokens, and candidates of 2."""
    prefixes = [[1] * (i + 1) for i in range(n_histories)]
    return common("prompts").Prompts(prefixes, [[[1, 1]] * n_candidates] * n_histories)


@pytest.mark.parametrize(
    ("n_histories", "n_candidates", "prefixes", "rows", "histories"),
    [
        (20, 5, [7, 8, 9, 10, 11, 12, 13], [1, 2, 4, 8, 16, 32], [1, 2, 4]),  # 7 x 5 rows fill 32
        (3, 3, [1, 2, 3], [1, 2, 4, 8], [1, 2]),
    ],
)
def test_batch_sizes_are_tried_on_neighbours_that_fill_them(
    common, n_histories, n_candidates, prefixes, rows, histories
):
    module = common("batch_sizes")
    tried = module.sample(CPU, some_prompts(common, n_histories, n_candidates))

    assert [len(prefix) for prefix in tried.prefixes] == prefixes
    assert (module.sizes(CPU, "rows", tried), module.sizes(CPU, "histories", tried)) == (rows, histories)


def test_only_attention_under_a_mask_counts_dense(common):
    baselines, ways = common("baselines"), common("ways")
    prompts = common("prompts").Prompts([[1], [1, 1, 1]], [[[1], [1, 1]], [[1], [1, 1]]])

    # rows of 2, 3, 4, 5 tokens, padded to 3 and 5
    for dense in (False, True):
        assert baselines.work_of_plain(prompts, 2, dense) == Work(tokens=16, pairs=2 * 6 + 2 * 15, logits=8)
    # prefixes padded to 3, four candidates to 2
    assert baselines.work_of_cached(prompts, 2, False) == Work(14, 2 * 6 + 4 * (2 * 3 + 3), 8)
    assert baselines.work_of_cached(prompts, 2, True) == Work(14, 2 * 6 + 4 * (2 * 3 + 4), 8)
    # prefixes of 1 and 3 alone; with room for two candidates the shorter is padded, with less it is not
    assert ways.work_of_own_cache(prompts, 100, True) == Work(12, 1 + 6 + 2 * (2 * 1 + 4) + 2 * (2 * 3 + 4), 8)
    assert ways.work_of_own_cache(prompts, 1, True) == Work(10, 1 + 6 + (1 + 1) + (2 + 4) + (3 + 1) + (6 + 4), 8)


def test_time_is_charged_to_the_innermost_part(common, monkeypatch):
    module = common("clock")
    ticks = iter([0.0, 1.0, 4.0, 9.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    clock = module.Clock(CPU)

    with clock.part("outer"), clock.part("inner"):
        pass

    assert clock.seconds == {"outer": 1.0 + 5.0, "inner": 3.0}
    assert clock.table(["inner"]).splitlines()[-1] == "| **outside inner** | 6.00 | 66.7% |"


def test_an_encoder_becomes_a_causal_model_with_its_own_weights(tmp_path, monkeypatch, capsys):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", *(f"w{i}" for i in range(50))]
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(tmp_path / "encoder" / "vocab.txt")).save_pretrained(tmp_path / "encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    encoder = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=600, **sizes))
    encoder.save_pretrained(tmp_path / "encoder")
    flags = [f"--source={tmp_path / 'encoder'}", f"--out={tmp_path / 'decoder'}"]
    monkeypatch.setattr(sys, "argv", ["encoder_as_decoder.py", *flags])
    runpy.run_path(str(BENCHMARKS / "encoder_as_decoder.py"), run_name="__main__")
    assert f"{tmp_path / 'decoder'}: " in capsys.readouterr().out
    backbone = load_backbone(str(tmp_path / "decoder"), dtype=torch.float32)
    own = dict(backbone.decoder.named_parameters())
    for name, weight in encoder.named_parameters():
        assert name.startswith("pooler") or torch.equal(own[name], weight), name
    assert not choose_attention(backbone, 5, 6, longest_prompt=100)
    assert backbone.attention == "flash"


def test_whole_catalogues_are_ranked_by_every_model(run):
    flags = ["--repetitions=1", "--eval_args={'mode': 'full'}", "--precision=bf16"]
    printed = run("full_ranking.py", "--n_histories=3", *flags)

    models = ["SASRec", "LiteLLM4Rec", "HLLM", "LLMTRSR, one prompt"]
    assert [row[0] for row in rows(printed, r"[A-Z].*\(")] == models
    assert "tiny: 9 items, 3 histories" in printed
    assert all(float(row[1].split()[0]) > 0 for row in rows(printed, r"[A-Z].*\("))
    assert "tiny: 9 items, 4 histories" in run("full_ranking.py", "--n_histories=4000", *flags)  # all there are


@pytest.mark.slow
def test_a_stopped_encoding_of_many_items_is_continued(warm_python, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS.parent))
    monkeypatch.setattr(
        sys, "argv", [script := str(BENCHMARKS / "million_items.py"), "--n_items=9000", f"--out={tmp_path}"]
    )
    sizes = []
    encoded = ItemEncoder._encoded
    monkeypatch.setattr(ItemEncoder, "_encoded", lambda self, ids: sizes.append(len(ids)) or encoded(self, ids))
    runpy.run_path(script, run_name="__main__")

    assert "best 100 of 9,000 items" in capfd.readouterr().out
    assert sum(sizes) == 9001 - 4096  # the part that was made before the stop is not made again


# User, number of events before, clicked, shown beside it; and what the user had chosen before.
SHOWN = [
    ("six", 2, ["i3"], ["i6", "i7"]),
    ("ties", 1, ["i8"], ["i6", "i7", "i2"]),
    ("unix", 2, ["i3"], ["i6"]),
    ("twice", 1, ["i3"], ["i6", "i7", "i4", "i5"]),
    ("thrice", 2, ["i5"], ["i6", "i7"]),
]
ON_IMPRESSIONS = [
    "--eval_args={'split': {'US': [3, 1, 1]}, 'mode': 'impressions'}",
    *("--metrics=['ImpressionAUC']", "--valid_metric=ImpressionAUC", "--topk=[1]"),
]
BEFORE = {"six": ["i1", "i2"], "ties": ["i9"], "unix": ["i2", "i2"], "twice": ["i2"], "thrice": ["i1", "i4"]}


@pytest.fixture
def clicks_per_show(monkeypatch: pytest.MonkeyPatch, atomic_folder: Path) -> Any:
    """The script, beside a tiny data set with impressions."""
    write_candidate_file(atomic_folder / "tiny" / "tiny.impressions.npz", CandidateFile.from_rows(SHOWN))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("clicks_per_show")


def test_shows_and_clicks_become_rates(clicks_per_show):
    counts = clicks_per_show.counted(CandidateFile.from_rows(SHOWN))
    assert counts == {"i2": (1, 0), "i3": (3, 3), "i4": (1, 0), "i5": (2, 1), "i6": (5, 0), "i7": (4, 0), "i8": (1, 1)}

    asked = CandidateFile.from_rows([("a", 1, ["i5"], ["i6", "i9"])])  # 5 of 17 shows were clicked; i9 was never shown
    rates = np.array([(1 + 2 * 5 / 17) / 4, (2 * 5 / 17) / 7, 5 / 17])
    assert np.allclose(clicks_per_show.clicks_per_show(asked, counts, 2), np.log(rates / (1 - rates)))
    assert np.allclose(clicks_per_show.clicks(asked, counts, 2), np.log([3, 2, 2]))


def test_the_choice_of_the_highest_auc_on_validation_is_taken(clicks_per_show):
    valid = CandidateFile.from_rows([("a", 1, ["i1"], ["i2", "i3"]), ("b", 1, ["i2"], ["i1"])])
    ways = {(1, 0): [1.0, 2, 0, 0, 1], (2, 0): [3.0, 2, 0, 0, 1], (3, 0): [0.0, 1, 2, 1, 0]}
    choice, auc = clicks_per_show.best(valid, {choice: np.array(scores) for choice, scores in ways.items()})
    assert (choice, auc) == ((2, 0), 1)


def test_similarities_lie_as_the_candidates_of_the_file(clicks_per_show, make_config):
    eval_args = {"split": {"US": [1, 1, 3]}, "mode": "impressions"}
    config = make_config("LLMSeqSim", eval_args=eval_args, eval_batch_size=5)
    dataset = get_dataset(get_model("LLMSeqSim"))(config)
    (_, _, test), *_ = make_loaders(config, dataset)
    model, file = get_model("LLMSeqSim")(config, dataset), test.candidates.file
    model.vectors.copy_(torch.randn(model.vectors.shape, generator=torch.manual_seed(1)))
    ids, tokens = dataset.field2token_id["item_id"], file.tokens[file.items]

    expected = []
    for user, begin, end in zip(file.users, file.offsets, file.offsets[1:]):
        vectors = model.vectors[[ids[item] for item in BEFORE[user]]]
        taste = torch.nn.functional.normalize(vectors.sum(0), dim=0)
        expected += [float(taste @ model.vectors[ids[item]]) for item in tokens[begin:end]]
    assert len(file.users) == 3
    assert len(set(np.round(expected, 3))) > 6
    assert np.allclose(clicks_per_show.scores(model, test), expected, atol=1e-6)


def test_what_is_shown_and_never_clicked_goes_last(clicks_per_show, run, tmp_path):
    printed = run("clicks_per_show.py", f"--out={tmp_path / 'out'}", *ON_IMPRESSIONS)

    n_shows = int(re.search(r"(\d+) shows of \d items and 3 clicks in training", printed)[1])
    assert n_shows in {sum(1 + len(SHOWN[i][3]) for i in rows) for rows in combinations(range(5), 3)}
    for label in ("Clicks", "Clicks@LLMSeqSim", "ClicksPerShow", "ClicksPerShow@LLMSeqSim"):
        result = json.loads((tmp_path / "out" / label / "seed-1" / "result.json").read_text())
        assert (result["label"], result["n_test"]) == (label, 1)
        if label == "ClicksPerShow":  # what training showed was not clicked, but for i3, i5 and i8
            assert result["test_result"]["impressionauc"] == 1


def test_what_is_similar_to_the_history_goes_first(clicks_per_show, atomic_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clicks_per_show, "scores", lambda _, loader: loader.candidates.file.is_positive * 1.0)
    data = ["--data=tiny", f"--data_path={atomic_folder}", f"--out={tmp_path / 'out'}"]
    monkeypatch.setattr("sys.argv", ["clicks_per_show.py", *data, *ON_IMPRESSIONS])
    clicks_per_show.main()
    found = dict(re.findall(r"(\S+): validation impressionauc (\S+) with", capsys.readouterr().out))
    assert list(found) == ["Clicks", "Clicks@LLMSeqSim", "ClicksPerShow", "ClicksPerShow@LLMSeqSim"]
    assert (float(found["Clicks@LLMSeqSim"]), float(found["ClicksPerShow@LLMSeqSim"])) == (1, 1)


@pytest.mark.parametrize(("model", "precision"), [("TALLRec", "fp32"), ("LLMTRSR", "fp32"), ("LLMTRSR", "bf16")])
def test_beside_equal_counts_a_run_decides(model, precision, clicks_per_show, atomic_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shared = {
        "data_path": str(atomic_folder),
        "data_seed": 7,
        "eval_args": {"split": {"US": [1, 1, 3]}, "mode": "impressions"},
        "metrics": ["Recall", "MRR", "ImpressionAUC"],
        "valid_metric": "ImpressionAUC",
        "topk": [1, 2],
    }
    own = {"train_on": "impressions", "max_prompt_tokens": 400, "epochs": 1, "learning_rate": 0.02, "use_gpu": False}
    own |= {"precision": precision, "block_size": 1, "summary_store": None, "show_progress": False, "seed": 3}
    compare([model], "tiny", config_dict={**shared, **own, **sources.flags(SMALL), "result_dir": "run"})
    of_run = json.loads((tmp_path / "run" / "result.json").read_text())

    monkeypatch.setattr(clicks_per_show, "clicks", lambda candidates, *_: np.zeros(len(candidates.items)))
    flags = [f"--{name}={value}" for name, value in shared.items()]
    monkeypatch.setattr("sys.argv", ["clicks_per_show.py", "--data=tiny", "--out=out", "--run=run", *flags])
    clicks_per_show.main()
    alone, blended = (
        json.loads((tmp_path / "out" / folder / "result.json").read_text())
        for folder in ("Clicks/seed-1", f"Clicks@{model}/seed-3")
    )
    assert blended["candidates"]["test"]["hash"] == of_run["candidates"]["test"]["hash"]
    assert blended["test_result"].items() >= of_run["test_result"].items()
    assert alone["test_result"]["impressionauc"] == 0.5 != of_run["test_result"]["impressionauc"]

    twice = ["clicks_per_show.py", "--data=tiny", "--out=out", "--run=run", "--run=run"]
    monkeypatch.setattr("sys.argv", [*twice, *flags])
    with pytest.raises(
        SystemExit,
        match=f"--run names {model} with seed 3, {model} with seed 3, of which some have equal names and seeds",
    ):
        clicks_per_show.main()


def test_a_crowd_is_served_and_every_score_is_the_trainers(run, warm_python):
    printed = run("serving_load.py", "--n_requests=40", "--concurrency=8", "--max_prompt_tokens=400")

    assert re.search(r"tiny: 40 requests, 8 at once, \d+ per second", printed)
    assert "valid: 32 x 200\n" in printed
    assert re.search(r"malformed: [\dx ,4]+\ncancelled: 4 x none\n", printed)
    assert float(re.search(r"largest difference from the trainer's scores: (\S+)", printed)[1]) < 1e-5
    assert "tracebacks: 0" in printed
    assert [row[0] for row in rows(printed, "p")] == ["p50", "p95"]


@pytest.mark.slow
def test_two_processes_end_with_what_one_ends_with(run, warm_python):
    printed = run("several_processes.py", "--repetitions=1", "--max_prompt_tokens=400", "--candidate_exclusion=target")

    assert "results equal: True\nper-history tables equal: True\nlargest difference of a weight: 0.0e+00\n" in printed
    assert [row[0] for row in rows(printed, "")][-4:] == ["summaries", "training", "validation", "evaluation"]
