"""The engine's benchmarks, at toy size: that they run, and what their figures mean."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llmtrsr import trainer
from recbole_llmtrsr.data import prefetch
from recbole_llmtrsr.model import scorer, scoring

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = ["--builtin_hidden_size=16", "--builtin_n_layers=1", "--builtin_n_heads=2", "--builtin_vocab_size=400"]
CPU = torch.device("cpu")

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
) -> Run:
    """Runs a script on the tiny data set and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *flags: str) -> str:
        data = ["--data=tiny", f"--data_path={atomic_folder}", "--eval_args={'mode': 'uni2'}", "--threads=1"]
        monkeypatch.setattr(sys, "argv", [script, *data, *SMALL, *flags])
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        return capsys.readouterr().out

    return run


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


def test_adapters_in_bfloat16_are_measured_with_the_back_end_that_the_probe_picks(run):
    small = ["--candidates", "2", "--n_histories=2", "--repetitions=1", "--n_authors=1", "--shape=64x2"]
    printed = run("engine.py", *small, "--train", "--negatives", "1", "--lora", "--dtype=bfloat16")

    # and 4 pairs of 64 x 8 in each layer
    assert "random weights, bfloat16, LoRA; 0.23 M operations per token" in printed
    assert len(rows(printed, "ours, ")) == 2


def test_a_line_is_fitted_through_the_times(run):
    printed = run("engine_scaling.py", "--candidates", "3", "30", "90", "--n_histories=1", "--repetitions=1", "--users")

    assert [row[0] for row in rows(printed, r"\d")] == ["3", "30", "90"]
    assert re.search(r"ms = -?\d+\.\d+ \+ \d+\.\d{4} x candidates; R2 0\.\d{5}; the largest residual is", printed)


def test_memory_is_that_which_the_evaluation_adds(run):
    users, _, before, most, added = rows(run("engine_scaling.py", "--memory_of=40", "--n_events=4"), "40")[0]

    assert users == "40"
    assert float(most.replace(",", "")) - float(before.replace(",", "")) == pytest.approx(float(added), abs=0.11)
    assert float(added) > 0


def test_the_parts_of_an_evaluation_and_of_training_add_up(run, monkeypatch):
    for owner, name in (
        (prefetch, "prefetched"),
        (trainer, "prefetched"),
        (scorer, "shared_prefix_rows"),
        (scoring, "shared_prefix_rows"),
        (scorer.Scorer, "scores"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # the script wraps them; put back afterwards
    evaluation, training = run("evaluation_profile.py").split("training on")

    for printed, inside in (
        (evaluation, ["the backbone's forward"]),
        (training, ["the backbone's forward", "backward"]),
    ):
        shares = {
            row[0]: float(row[2].rstrip("%")) for row in rows(printed, r"(the|wait|group|look|lay|answer|Rec|back|opt)")
        }
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

    assert timing.fastest_size(CPU, lambda size: tried.append(size) or size, list(seconds)) == 2
    assert tried == [1, 1, 2, 4, 8]  # the first once to warm up


def test_the_first_turn_is_not_counted(common, monkeypatch):
    timing, order = common("timing"), []
    monkeypatch.setattr(timing, "timed", lambda device, call: (float(len(order)), order.append(call())))

    seconds, _ = timing.by_turns(CPU, {"a": lambda: "a", "b": lambda: "b"}, repetitions=2)

    assert order == ["a", "b"] * 3
    assert seconds == {"a": [2.0, 4.0], "b": [3.0, 5.0]}


def test_time_is_charged_to_the_innermost_part(common, monkeypatch):
    module = common("clock")
    ticks = iter([0.0, 1.0, 4.0, 9.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    clock = module.Clock(CPU)

    with clock.part("outer"), clock.part("inner"):
        pass

    assert clock.seconds == {"outer": 1.0 + 5.0, "inner": 3.0}
    assert clock.table(["inner"]).splitlines()[-1] == "| **outside inner** | 6.00 | 66.7% |"
