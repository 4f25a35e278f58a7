"""Measures the peak memory of an evaluation of synthetic users."""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.runs import OPTIONS, commands, load_run

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime.device import peak_memory_bytes, reset_peak_memory
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

NAME = "made_up"


def evaluate_made_up_users(known: argparse.Namespace, folder: Path, **options: Any) -> str:
    """Create users of a catalogue, evaluate them, and measure memory.

    Returns:
        A line with the number of users, seconds, MiB before, peak and difference, for the process or a GPU's tensors.
    """
    fixed = {**OPTIONS.get(known.data, {}), **({"data_path": known.data_path} if known.data_path else {})}
    source = Config(get_model("LLMTRSR"), known.data, [], fixed, command=commands[-1])
    make_users(source, folder, known.memory_of, known.n_events)
    kept = {name: source[name] for name in ("item_text_fields", "item_text_labels", "domain", "max_item_tokens")}
    kept = {name: value for name, value in kept.items() if value is not None}
    # Keeps the work before the evaluation short.
    kept |= {"max_train_targets_per_user": 1, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    run = load_run(NAME, str(folder), folder, **kept, **options)
    trainer = LLMTRSRTrainer(run.config, get_model("LLMTRSR")(run.config, run.dataset).to(run.config["device"]))
    device = run.config["device"]
    before = in_use(device)
    start = time.perf_counter()
    trainer.evaluate(run.loaders[2], load_best_model=False)
    seconds = time.perf_counter() - start
    most = peak_memory_bytes(device) or 0
    cells = [f"{known.memory_of:,}", f"{seconds:.0f}", *(f"{x / 2**20:,.1f}" for x in (before, most, most - before))]
    return f"| {' | '.join(cells)} |"


def make_users(source: Any, folder: Path, n_users: int, n_events: int) -> None:
    """Write atomic files with distinct random items per user, and the items unchanged."""
    items = (Path(source["data_path"]) / f"{source['dataset']}.item").read_text(encoding="utf-8")
    tokens = [line.split("\t", 1)[0] for line in items.splitlines()[1:]]
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        read = rng.choice(len(tokens), n_events, replace=False)
        lines += [f"u{user}\t{tokens[item]}\t{when}" for when, item in enumerate(read)]
    (folder / NAME).mkdir()
    (folder / NAME / f"{NAME}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / NAME / f"{NAME}.item").write_text(items, encoding="utf-8")


def in_use(device: torch.device) -> int:
    """Return the bytes in use, and reset the peak to this level."""
    if (told := reset_peak_memory(device)) not in ("whole process", "tensors on the device"):
        raise SystemExit(
            f"the peak memory of a part cannot be measured here, only that of the {told}: run on Linux with a writable"
            " /proc/self/clear_refs, use --device=cuda, or skip this part with --users and no number"
        )
    gc.collect()
    # Freed memory that the allocator keeps would hide later allocations. Not every C library can return it.
    if told == "whole process" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
    reset_peak_memory(device)
    return peak_memory_bytes(device) or 0
