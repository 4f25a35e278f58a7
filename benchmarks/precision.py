"""How much faster is bf16 than fp32 in training and scoring, with one backbone on one device?

python benchmarks/precision.py [--data=ml-100k|mind|...] [--data_path=<folder of their folders>] [--threads=<n>]
                               [--n_batches=<n>] [--repetitions=<n>] [--<option>=<value> of a run]

The trainer's gradient step and its evaluation process the same batches in both formats, in alternation. Options of a
run select model and prompts, such as --backbone=<folder> --tune=all. The benchmark also compares the scores of both
formats.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common.machine import versions
from common.runs import load_run, parsed, run_parser
from common.timing import spread, timed
from torch import Tensor

from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime.device import device_name
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

FORMATS = ("fp32", "bf16")


def main() -> None:
    parser = run_parser(__doc__)
    parser.add_argument("--n_batches", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=3)
    known = parsed(parser)
    trainers = {name: trainer(known, name) for name in FORMATS}
    seconds: dict[str, dict[str, list[float]]] = {
        task: {name: [] for name in FORMATS} for task in ("training", "scoring")
    }
    scores: dict[str, Tensor] = {}
    for turn in range(known.repetitions + 1):  # the first warms up
        for name, (own, train, test) in trainers.items():
            steps, _ = timed(own.device, lambda own=own, train=train: step(own, train))  # type: ignore[misc]
            scoring, scores[name] = timed(own.device, lambda own=own, test=test: scored(own, test))  # type: ignore[misc]
            if turn:
                seconds["training"][name].append(steps)
                seconds["scoring"][name].append(scoring)
    own = trainers["fp32"][0]
    print(f"{device_name(own.device)}, {known.threads} threads; {versions()}")
    n_weights = sum(weight.numel() for weight in own.model.parameters())
    print(
        f"{known.data}, {known.n_batches} batches each; {n_weights:,} weights,"
        f" attention {own.model.backbone.attention}\n"
    )
    print("| task | fp32, ms per batch | bf16, ms per batch | bf16 is times faster (least - most) |")
    print("|---|---:|---:|---:|")
    for task, taken in seconds.items():
        ratios = [slow / fast for slow, fast in zip(taken["fp32"], taken["bf16"], strict=True)]
        each = (f"{1000 * median(taken[name]) / known.n_batches:.1f}" for name in FORMATS)
        print(f"| {task} | {' | '.join(each)} | {spread(ratios, 2)} |")
    difference = (scores["fp32"] - scores["bf16"]).abs().max()
    print(
        f"\nscores with untrained weights: standard deviation {scores['fp32'].std():.3f},"
        f" largest difference {difference:.3f}"
    )


def trainer(known: argparse.Namespace, precision: str) -> tuple[LLMTRSRTrainer, list[Any], list[Any]]:
    """Create a trainer with equal weights in a number format, some training batches and some test batches."""
    with tempfile.TemporaryDirectory() as folder:
        run = load_run(known.data, known.data_path, Path(folder), precision=precision)
        model = get_model("LLMTRSR")(run.config, run.dataset).to(run.config["device"])
        own = LLMTRSRTrainer(run.config, model)
    train = list(islice(run.loaders[0], known.n_batches))
    return own, train, [rows for rows, *_ in islice(run.loaders[2], known.n_batches)]


def step(own: LLMTRSRTrainer, batches: Sequence[Any]) -> None:
    """Compute gradients of every batch, without an optimizer step, so that both formats keep the same weights."""
    own.model.train()
    for batch in batches:
        own._gradients([batch])
        own.optimizer.zero_grad()


@torch.no_grad()
def scored(own: LLMTRSRTrainer, batches: Sequence[Any]) -> Tensor:
    """Score every row of the batches."""
    own.model.eval()
    with own.accelerator.autocast():
        return torch.cat([own.model.predict(batch.to(own.device)) for batch in batches])


if __name__ == "__main__":
    main()
