"""How fast are training and scoring with one backbone, in fp32, in bf16, and with peft's own LoRA layers?

python benchmarks/precision.py [--data=ml-100k|mind|...] [--data_path=<folder of their folders>] [--threads=<n>]
                               [--n_batches=<n>] [--repetitions=<n>] [--<option>=<value> of a run]

The trainer's gradient step and its evaluation process the same batches in alternation. Options of a run select model
and prompts, such as --backbone=smollm2 --backbone_layers=12. Operations are those of `engine/meter.py`;
their peak is the best square matrix product of the number format, measured before each turn. With LoRA, the third way
is fp32 as peft computes it, without shared masks. Memory is what a training step needs beside the weights, at its peak.
The benchmark also compares the scores of both formats.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common.machine import versions
from common.runs import load_run, parsed, run_parser
from common.timing import spread, timed
from peft.tuners.lora.layer import Linear
from torch import Tensor

from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime.device import device_name, matrix_product_peak, peak_memory_bytes, reset_peak_memory
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

PEFT = "fp32, layers of peft"
TASKS = ("training", "scoring")


@dataclass
class Measured:
    """One way and task: seconds of every repetition, their operations per second as a share of the peak, and tokens."""

    seconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    tokens: int = 0


def main() -> None:
    parser = run_parser(__doc__)
    parser.add_argument("--n_batches", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=3)
    known = parsed(parser)
    ways = {name: trainer(known, name) for name in ("fp32", "bf16")}
    if any(isinstance(part, Linear) for part in ways["fp32"][0].model.modules()):
        ways[PEFT] = trainer(known, "fp32")
        as_in_peft(ways[PEFT][0].model)
    found = {task: {name: Measured() for name in ways} for task in TASKS}
    scores: dict[str, Tensor] = {}
    memory: dict[str, float] = {}
    for turn in range(known.repetitions + 1):  # the first warms up
        for name, (own, train, test) in ways.items():
            peak = matrix_product_peak(own.device, torch.bfloat16 if name == "bf16" else torch.float32) or float("nan")
            for task, call in zip(TASKS, (lambda: step(own, train), lambda: scored(own, test)), strict=True):  # noqa: B023
                before = own.model.meter.totals(), own.model.meter.tokens
                return_free_memory()
                reset_peak_memory(own.device)
                resident = peak_memory_bytes(own.device) or 0
                seconds, value = timed(own.device, call)
                if task == "scoring":
                    scores[name] = value
                elif not turn:
                    memory[name] = ((peak_memory_bytes(own.device) or 0) - resident) / 2**30
                if turn:
                    one = found[task][name]
                    one.seconds.append(seconds)
                    one.tokens = sum(own.model.meter.tokens.values()) - sum(before[1].values())
                    done = own.model.meter.totals()["operations"] - before[0]["operations"]
                    one.shares.append(done / seconds / peak)
    own = ways["fp32"][0]
    print(f"{device_name(own.device)}, {known.threads} threads; {versions()}")
    n_weights = sum(weight.numel() for weight in own.model.parameters())
    print(
        f"{known.data}, {known.n_batches} batches each; {n_weights:,} weights,"
        f" attention {', '.join(dict.fromkeys(own.model.backbone.attention for own, *_ in ways.values()))}\n"
    )
    print("| task | way | tokens/s | of the peak | times the speed of fp32 (least - most) | memory, GiB |")
    print("|---|---|---:|---:|---:|---:|")
    for task, of_task in found.items():
        for name, one in of_task.items():
            ratios = [slow / fast for slow, fast in zip(of_task["fp32"].seconds, one.seconds, strict=True)]
            cells = [
                f"{one.tokens / median(one.seconds):,.0f}",
                f"{median(one.shares):.0%}",
                spread(ratios, 2) if name != "fp32" else "1",
                f"{memory[name]:.1f}" if task == "training" else "",
            ]
            print(f"| {task} | {name} | {' | '.join(cells)} |")
    difference = (scores["fp32"] - scores["bf16"]).abs().max()
    print(
        f"\nscores with untrained weights: standard deviation {scores['fp32'].std():.3f},"
        f" largest difference of bf16 {difference:.3f}"
    )


def return_free_memory() -> None:
    """Give freed memory back to the system, lest the next pass reuse it uncounted; in vain outside of glibc."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def as_in_peft(model: torch.nn.Module) -> None:
    """Undo what `recbole_llmtrsr.llm.low_rank` changes."""
    for layer in model.modules():
        if isinstance(layer, Linear):
            layer.__dict__.pop("forward", None)
            for adapter, dropout in layer.lora_dropout.items():
                layer.lora_dropout[adapter] = torch.nn.Dropout(dropout.p)


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
