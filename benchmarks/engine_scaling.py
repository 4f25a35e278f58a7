"""Does the time of a history grow in proportion to its candidates, and does memory grow with the users?

python benchmarks/engine_scaling.py [--data=ml-100k|mind|amazon-industrial] [--data_path=<folder of their folders>]
                                    [--candidates 21 101 301 1001 2001] [--n_histories=4] [--repetitions=3]
                                    [--users 1000 10000] [--n_events=8] [--threads=<n>] [--device=cpu|cuda]
                                    [--<option>=<value> of a run]

Time: the benchmark scores real prompts of test histories, one history per call, with candidates from the whole
catalogue, which repeat if the catalogue has fewer. The numbers of candidates alternate, and a line is fitted by least
squares.

Memory: the trainer evaluates each number of users in a separate process. Users are synthetic and have n_events random
items of the catalogue. Since RecBole's tables grow with the users, the result is the peak above the level directly
before the evaluation. This part needs Linux or a GPU.

docs/guides/data.md describes ml-100k and mind; amazon-industrial uses title, brand and description of the items.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common.machine import versions
from common.memory import evaluate_made_up_users
from common.prompts import Prompts, test_prompts
from common.runs import Run, load_run, parsed, run_parser
from common.timing import by_turns, spread
from common.ways import ours, precision

from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.model.assembly import PromptedBackbone, assemble
from recbole_llmtrsr.runtime.device import device_name


def main() -> None:
    known = arguments()
    options = {"use_gpu": known.device != "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        if known.memory_of:
            print(evaluate_made_up_users(known, Path(folder), **options))
            return
        run = load_run(known.data, known.data_path, Path(folder), **options)
        parts = assemble(run.config.settings, run.dataset, torch.device(known.device), run.config["seed"])
        parts.backbone.eval()
        print(f"{device_name(parts.backbone.device)}; {versions()}\n")
        if known.candidates:
            time_by_candidates(known, run, parts)
    if known.users:
        memory_by_users(known, known.others)


def arguments() -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.add_argument("--candidates", type=int, nargs="*", default=[21, 101, 301, 1001, 2001])
    parser.add_argument("--n_histories", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--users", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--n_events", type=int, default=8, help="number of events of every synthetic user, at least 4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory_of", type=int, help=argparse.SUPPRESS)  # users; this process is one of the measured
    return parsed(parser)


def time_by_candidates(known: argparse.Namespace, run: Run, parts: PromptedBackbone) -> None:
    """Print the time per history by number of candidates, and the fitted line."""
    prompts, _ = test_prompts(run, parts.prompts, known.n_histories)
    prompts = with_candidates(run, parts, prompts, max(known.candidates))
    device = parts.backbone.device
    budget = TokenBudget(run.config.settings.backbone.max_tokens_per_batch, device, "scoring")
    way = ours(parts.backbone.attention, budget)

    def score(n: int, size: int) -> None:
        with torch.inference_mode(), precision(parts.backbone):
            for history in prompts.first_candidates(n).parts(1):
                way.score(parts, history, size)

    calls = {str(n): lambda size, n=n: score(n, size) for n in known.candidates}  # type: ignore[misc]
    seconds, *_ = by_turns(device, calls, dict.fromkeys(calls, budget.max_tokens), known.repetitions)
    medians = np.array([statistics.median(seconds[name]) for name in calls]) / len(prompts.prefixes)
    slope, start = np.polyfit(known.candidates, medians, 1)
    fitted = start + slope * np.array(known.candidates)
    residuals = medians - fitted
    determined = 1 - (residuals**2).sum() / ((medians - medians.mean()) ** 2).sum()
    print(f"{known.data}, {len(prompts.prefixes)} test histories; {way.name}, {budget.max_tokens:,} tokens at a time\n")
    print("| candidates | ms per history (least - most) | line | residual |")
    print("|---:|---:|---:|---:|")
    for n, median, line in zip(known.candidates, medians, fitted):
        each = [1000 * t / len(prompts.prefixes) for t in seconds[str(n)]]
        print(f"| {n:,} | {spread(each, 1)} | {1000 * line:.1f} | {median / line - 1:+.1%} |")
    worst = int(np.abs(residuals).argmax())
    print(
        f"\nms = {1000 * start:.2f} + {1000 * slope:.4f} x candidates; R2 {determined:.5f}; the largest residual is"
        f" {1000 * residuals[worst]:+.1f} ms at {known.candidates[worst]:,} candidates\n",
        flush=True,
    )


def with_candidates(run: Run, parts: PromptedBackbone, prompts: Prompts, n: int) -> Prompts:
    """Return the same prefixes with n items of the catalogue, in random order."""
    order = 1 + np.random.default_rng(0).permutation(run.dataset.item_num - 1)  # 0 is the padding
    sections = [parts.prompts.candidate(item) for item in np.resize(order, n).tolist()]
    return Prompts(prompts.prefixes, [sections] * len(prompts.prefixes))


def memory_by_users(known: argparse.Namespace, others: list[str]) -> None:
    """Print a line per number of users, each of which runs in a separate process."""
    print(f"{known.data}'s catalogue, users with {known.n_events} events each; MiB\n")
    print("| users | seconds | before the evaluation | peak in it | added |")
    print("|---:|---:|---:|---:|---:|")
    for n in known.users:
        flags = [f"--data={known.data}", f"--device={known.device}", f"--threads={known.threads}"]
        flags += [f"--n_events={known.n_events}", f"--memory_of={n}"]
        flags += [f"--data_path={known.data_path}"] if known.data_path else []
        command = [sys.executable, "-W", "ignore", __file__, *flags, *others]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(
                f"the evaluation of {n:,} users failed with exit code {done.returncode}: see the output above"
            )
        print(done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
