"""How much faster is shared-prefix scoring than other methods, and how close does it come to its arithmetic ceiling?

python benchmarks/engine.py [--data=ml-100k|mind|amazon-industrial] [--data_path=<folder of their folders>]
                            [--shape=builtin|<hidden>x<layers>|qwen2.5-0.5b|qwen2.5-1.5b|qwen2.5-7b]
                            [--backends flash flex split cached_prefix] [--candidates 21 101] [--n_histories=48]
                            [--n_authors=4] [--repetitions=3] [--threads=<n>] [--train] [--negatives 1 20] [--lora]
                            [--profile] [--device=cpu|cuda] [--dtype=float32|bfloat16] [--<option>=<value> of a run]

The benchmark uses real prompts of test histories, random weights, and the builtin tokenizer for all shapes. Every
method starts from the same token sections, builds its rows, and returns a table of scores, which the benchmark
compares. In each repetition, all methods run one after another. "ours" scores as in a run, with its
max_tokens_per_batch, also in training; plain rows and the cached prefix use their fastest batch size on neighbouring
histories with the same number of candidates. `batch` counts tokens for ours, rows for plain rows, and histories for the
cached prefix. A ratio divides the seconds of the other method by those of ours in the same repetition. With --lora,
scores and training steps use adapters.

The ceiling of a ratio divides the operations of the other method by those of ours, which have no padding. `ceiling`
counts the causal half of the other method's attention, including padding; `as computed` counts all pairs if the method
computes them under a mask, as for candidates over a cache and for the authors' prompts.

docs/guides/data.md describes ml-100k and mind; amazon-industrial uses title, brand and description of the items.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import torch
from common.compare_scoring import compare_scoring
from common.compare_training import N_HISTORIES, compare_training
from common.machine import versions
from common.prompts import Prompts, test_prompts
from common.report import table
from common.runs import Run, load_run, parsed, run_parser
from common.shapes import random_backbone
from common.ways import Way, ours, ours_in_training, precision

from recbole_llmtrsr.engine.attention.prefix_attention import BACKENDS, SHARED_PREFIX
from recbole_llmtrsr.engine.exactness import choose_attention
from recbole_llmtrsr.engine.operations import OperationCosts
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.lora import apply_lora
from recbole_llmtrsr.model.assembly import PromptedBackbone, assemble
from recbole_llmtrsr.runtime.device import device_name, matrix_product_peak

WITHOUT_GRADIENTS = "cached_prefix"


def main() -> None:
    try:
        compare()
    except UserError as fault:
        raise SystemExit(str(fault)) from fault


def compare() -> None:
    known = arguments()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        n = max(2, *known.candidates, *(1 + negatives for negatives in known.negatives if known.train))
        mode = {"eval_args": {"mode": f"uni{n - 1}"}, "use_gpu": False}
        run = load_run(known.data, known.data_path, Path(folder), **mode)
        parts, backends = random_parts(known, run)
        prompts, seconds = test_prompts(run, parts.prompts, known.n_histories)
    if (found := min(map(len, prompts.candidates))) < n:
        raise SystemExit(
            f"--candidates and --negatives need {n - 1} negatives per history, but --eval_args gives {found - 1}:"
            f" remove --eval_args, or set its mode to uni{n - 1}"
        )
    device = parts.backbone.device
    measured = matrix_product_peak(device, parts.backbone.transformer.dtype)
    if measured is None:
        raise SystemExit(
            f"{device} has too little memory to measure matrix products beside the weights: choose a smaller --shape"
        )
    peak = measured / 1e9
    describe(known, parts, prompts, seconds, peak)
    print("\n## Scoring\n")
    max_tokens = run.config.settings.backbone.max_tokens_per_batch
    own = [ours(backend, TokenBudget(max_tokens, device, "scoring")) for backend in backends]
    for n in known.candidates:
        scored = prompts.first_candidates(n)
        lines = compare_scoring(parts, scored, own, known.n_authors, known.repetitions)
        print(f"{n} candidates\n")
        table(lines, len(scored.prefixes), peak)
    if known.profile:
        profile(parts, prompts, own[0])
    if known.train:
        print("\n## A training step\n")
        own = [
            ours_in_training(backend, TokenBudget(max_tokens, device, "training"))
            for backend in backends
            if backend != WITHOUT_GRADIENTS
        ]
        if not own:
            raise SystemExit(f"--train needs a back-end with gradients, got {', '.join(backends)}")
        n_histories = min(N_HISTORIES, len(prompts.prefixes))
        for n in known.negatives:
            lines = compare_training(parts, prompts.first_candidates(1 + n), own, known.repetitions)
            print(f"1 positive : {n} negatives, {n_histories} histories; differences of gradients, by norm\n")
            table(lines, n_histories, peak)


def arguments() -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.add_argument("--shape", default="builtin")
    backends = (*BACKENDS, WITHOUT_GRADIENTS)
    what = "our back-ends, of which the first is the reference; by default the one that the exactness check selects"
    parser.add_argument("--backends", nargs="+", choices=backends, help=what)
    parser.add_argument("--candidates", type=int, nargs="+", default=[21, 101])
    parser.add_argument("--n_histories", type=int, default=48)
    parser.add_argument(
        "--n_authors", type=int, default=4, help="number of prompts for the slow procedure of the authors"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--negatives", type=int, nargs="+", default=[1, 20], help="negatives per positive in training")
    parser.add_argument("--lora", action="store_true", help="freeze the weights and add LoRA of rank 8")
    parser.add_argument("--profile", action="store_true", help="show in which operators our scoring spends its time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    known = parsed(parser)
    if min(known.candidates) < 2:
        parser.error(f"--candidates must be >= 2, got {min(known.candidates)}: a single candidate has no order")
    return known


def random_parts(known: argparse.Namespace, run: Run) -> tuple[PromptedBackbone, list[str]]:
    """Create a random backbone of the shape with the prompts of the data, and select back-ends that are exact on it."""
    builtin = assemble(run.config.settings, run.dataset, torch.device("cpu"), run.config["seed"])
    backbone = random_backbone(known.shape, builtin.backbone, known.device, getattr(torch, known.dtype))
    if known.lora:
        apply_lora(backbone, rank=8, alpha=16, dropout=0.0)  # dropout would make the gradients of two ways differ
        backbone.to(known.device)
    parts = dataclasses.replace(builtin, backbone=backbone.eval())
    for wanted in known.backends or ["auto"]:
        choose_attention(backbone, parts.yes_id, parts.no_id, wanted)
    backends = known.backends or [backbone.attention]
    if "plain" in backends:
        raise SystemExit(f"none of our back-ends is exact on --shape={known.shape}: choose another shape or device")
    # Supports every back-end, and computes SDPA attention without a shared prefix.
    backbone.transformer.set_attn_implementation(SHARED_PREFIX)
    if run.config.settings.backbone.gradient_checkpointing:
        backbone.enable_gradient_checkpointing()
    return parts, backends


def describe(
    known: argparse.Namespace, parts: PromptedBackbone, prompts: Prompts, seconds_per_prefix: float, peak: float
) -> None:
    config, costs = parts.backbone.transformer.config, OperationCosts.of(parts.backbone)
    prefixes, sections = list(map(len, prompts.prefixes)), prompts.section_lengths()
    print(
        f"{known.data}, {len(prefixes)} test histories; prefix {statistics.mean(prefixes):.0f} tokens on average"
        f" ({min(prefixes)} - {max(prefixes)}), candidate {statistics.mean(sections):.0f} ({min(sections)} -"
        f" {max(sections)}); building a prefix takes {1000 * seconds_per_prefix:.1f} ms, which is not timed below"
    )
    print(
        f"{known.shape}: hidden size {config.hidden_size}, {config.num_hidden_layers} layers, random weights,"
        f" {known.dtype}{', LoRA' * known.lora}; {costs.per_token / 1e6:.2f} M operations per token and"
        f" {costs.per_pair} per pair"
    )
    print(
        f"{device_name(parts.backbone.device)}, matrix products at {peak:,.0f} GFLOP/s;"
        f" {known.repetitions} alternating repetitions; {versions()}"
    )


def profile(parts: PromptedBackbone, prompts: Prompts, way: Way) -> None:
    with torch.inference_mode(), precision(parts.backbone), torch.profiler.profile() as seen:
        way.score(parts, prompts, 0)  # the size is in its budget
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=16, max_name_column_width=40))


if __name__ == "__main__":
    main()
