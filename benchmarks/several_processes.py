"""How much faster are several processes than one, and do they give the same results?

python benchmarks/several_processes.py [--data=ml-100k|...] [--data_path=<folder of their folders>] [--processes=<n>]
                                       [--repetitions=<n>] [--threads=<n of each process>] [--<option>=<value> of a run]

One process (with `gradient_shards` for as many) and several processes alternately train, validate and test LLMTRSR on
the same data, each from an empty folder, with the command line of a run and torchrun. Seconds are those of the stages
in `cost`, in which the backbone computes, and of the summaries; ratios are to one process, with the minimum and maximum
of the repetitions.

To estimate what the cores allow, the benchmark also starts as many independent runs of one process at once. If a stage
of such a run takes as long as alone, n processes can do the work in 1/n of the time. If it takes longer, for example
because cores share caches, memory or clock, the last column divides its time by n, which is the time to expect. At the
end, the benchmark compares results, tables and weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from common.machine import processor, versions
from common.timing import spread

import recbole_llmtrsr

ROOT = Path(recbole_llmtrsr.__file__).parent.parent
STAGES = ("summaries", "training", "validation", "evaluation")


def main() -> None:
    known, others = arguments()
    seconds: dict[tuple[int, str], list[float]] = {}
    at_once: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(known.repetitions):
            found = {n: run(known, others, n, Path(folder) / f"{repetition}-{n}") for n in (1, known.processes)}
            for n, result in found.items():
                for stage in STAGES:
                    seconds.setdefault((n, stage), []).append(seconds_of(result, stage))
            for stage, longest in apart(known, others, Path(folder) / f"{repetition}-apart").items():
                at_once.setdefault(stage, []).append(longest)
        one, several = found[1], found[known.processes]
        print(f"{processor()}; {known.threads} threads each; {versions()}")
        print(f"{known.data}: {one['n_train']:,} training targets, {one['n_valid'] + one['n_test']:,} others\n")
        n = known.processes
        print(f"| stage | 1 process, s | {n} processes, s | ratio | {n} runs apart at once, s | that over {n}, ratio |")
        print("|---|---:|---:|---:|---:|---:|")
        for stage in STAGES:
            of_one, of_several, of_apart = seconds[1, stage], seconds[n, stage], at_once[stage]
            ratios = [b / a for a, b in zip(of_one, of_several, strict=True)]
            expected = [b / n / a for a, b in zip(of_one, of_apart, strict=True)]
            columns = ((of_one, 1), (of_several, 1), (ratios, 2), (of_apart, 1), (expected, 2))
            print(f"| {stage} | {' | '.join(spread(*column) for column in columns)} |")
        print(f"\nresults equal: {comparable(one) == comparable(several)}")
        print(f"per-history tables equal: {tables(one) == tables(several)}")
        print(f"largest difference of a weight: {difference(one, several):.1e}")
        print(f"test: {one['test_result']} and {several['test_result']}")


def run(known: argparse.Namespace, others: list[str], n: int, folder: Path) -> dict[str, Any]:
    """Start a run in n processes; returns its result.json and its folder."""
    folder.mkdir()
    launch = ["-m", "torch.distributed.run", f"--nproc_per_node={n}"] if n > 1 else []
    places = [f"--result_dir={folder / 'out'}", f"--checkpoint_dir={folder}", f"--summary_store={folder / 's.sqlite'}"]
    data = [f"--dataset={known.data}", *([f"--data_path={Path(known.data_path).resolve()}"] if known.data_path else [])]
    flags = ["--model=LLMTRSR", *data, *places, "--show_progress=False", "--state=WARNING", "--epochs=1"]
    shards = [f"--gradient_shards={known.processes}"] if n == 1 else []
    command = [sys.executable, *launch, str(ROOT / "run_recbole_llmtrsr.py"), *flags, *shards, *others]
    environment = {**os.environ, "OMP_NUM_THREADS": str(known.threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return {**json.loads((folder / "out" / "result.json").read_text(encoding="utf-8")), "folder": folder}


def apart(known: argparse.Namespace, others: list[str], folder: Path) -> dict[str, float]:
    """Measure the seconds of each stage in concurrent runs of one process, for the slowest run."""
    folder.mkdir()
    with ThreadPoolExecutor(known.processes) as threads:
        runs = [threads.submit(run, known, others, 1, folder / str(number)) for number in range(known.processes)]
    return {stage: max(seconds_of(done.result(), stage) for done in runs) for stage in STAGES}


def seconds_of(result: dict[str, Any], stage: str) -> float:
    """Return the seconds of a stage of `cost`, or of the summaries."""
    return float(result["summaries"]["seconds"] if stage == "summaries" else result["cost"][stage]["seconds"])


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without times, paths and the number of processes."""
    free = ("seconds", "cost", "checkpoint", "processes", "options", "command", "folder", "validations")
    rest: dict[str, Any] = {name: value for name, value in result.items() if name not in free}
    return {**rest, "summaries": {**result["summaries"], "seconds": None}}


def tables(result: dict[str, Any]) -> list[bytes]:
    """Return the contents of the per-history tables."""
    return [path.read_bytes() for path in sorted((result["folder"] / "out").rglob("*.csv"))]


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference between two weights of the best checkpoints."""
    weights = [torch.load(result["folder"] / result["checkpoint"])["state_dict"] for result in (one, other)]
    return max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Parse the flags of the benchmark, and return those of a run."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_known_args()


if __name__ == "__main__":
    main()
