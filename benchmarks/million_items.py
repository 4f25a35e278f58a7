"""Encode a catalogue of a million items for HLLM, resume after a stop, and find the best items for a user.

    python benchmarks/million_items.py --n_items=1000000 --out=<folder>

The texts are synthetic, seven words each from a vocabulary of 20,000. The builtin backbone encodes them, stops half
way, and resumes in a new process; then the benchmark finds the best items for one random user vector at a time. If
--out holds the vectors of an earlier call, nothing is encoded.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from recbole_llmtrsr.llm.builtin import build_builtin
from recbole_llmtrsr.model import item_encoder
from recbole_llmtrsr.model.item_encoder import ItemEncoder
from recbole_llmtrsr.model.sequence_recommender import exact_product
from recbole_llmtrsr.model.sequential_recommender.hllm import LARGE_CATALOGUE

_TOKENS_AT_ONCE = 4096


def texts(n: int) -> list[str]:
    """Create n item texts; the first text belongs to the padding."""
    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}" for a in _syllables(rng, 200) for b in _syllables(rng, 100)])
    return [" ".join(row) for row in words[rng.integers(len(words), size=(n + 1, 7))]]


def _syllables(rng: np.random.Generator, n: int) -> list[str]:
    return ["".join(rng.choice(list("bdfgklmnprstvz"), 2)) + str(rng.choice(list("aeiou"))) for _ in range(n)]


def encode(n: int, folder: Path, stop_after: int | None) -> torch.Tensor:
    """Encode all items; ends the process after `stop_after` parts, as a kill would."""
    catalogue = texts(n)
    backbone = build_builtin(catalogue[:20_000], max_positions=128, seed=1)
    encoder = ItemEncoder(backbone, catalogue, max_tokens=32).eval()
    if stop_after is not None:
        write, done = item_encoder.VectorFile.write, []

        def counted(self: item_encoder.VectorFile, vectors: np.ndarray) -> None:
            write(self, vectors)
            done.append(1)
            if len(done) == stop_after:
                sys.exit(3)

        item_encoder.VectorFile.write = counted  # type: ignore[method-assign]
    return encoder.table(_TOKENS_AT_ONCE, show_progress=True, folder=folder)


def best(user: torch.Tensor, table: torch.Tensor, k: int) -> torch.Tensor:
    """Find the k items with the largest cosines with a user's vector [1, width], part by part."""
    parts = table[1:].split(LARGE_CATALOGUE)  # without the padding
    found = [exact_product(user, part.T).topk(min(k, len(part)), dim=1) for part in parts]
    items = torch.cat([own.indices + 1 + i * LARGE_CATALOGUE for i, own in enumerate(found)], dim=1)
    return items[0, torch.cat([own.values for own in found], dim=1).topk(k, dim=1).indices[0]]


def main() -> None:
    """Encode in two processes, then measure retrieval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_items", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--stop_after", type=int, help="internal: number of parts of 4,096 items after which the first process stops"
    )
    given = parser.parse_args()
    if given.stop_after is not None:
        encode(given.n_items, given.out, given.stop_after)
        return
    begin = time.perf_counter()
    half = max(1, given.n_items // 2 // 4096)
    own = [sys.executable, __file__, f"--n_items={given.n_items}", f"--out={given.out}", f"--stop_after={half}"]
    stopped = subprocess.run(own, check=False)
    if stopped.returncode not in (0, 3):
        raise SystemExit(f"the first process failed with exit code {stopped.returncode}: see the output above")
    middle = time.perf_counter()
    table = encode(given.n_items, given.out, None)
    end = time.perf_counter()
    if stopped.returncode == 0:
        print(f"--out holds the vectors already; loading them takes {end - middle:.0f} s")
    else:
        print(f"first half, until the stop: {middle - begin:.0f} s; second half, resumed: {end - middle:.0f} s")
    print(f"peak memory of the last process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    seconds = []
    for seed in range(30):
        user = torch.nn.functional.normalize(
            torch.randn(1, table.shape[1], generator=torch.Generator().manual_seed(seed))
        )
        start = time.perf_counter()
        best(user, table, 100)
        seconds.append(time.perf_counter() - start)
    times = sorted(1000 * s for s in seconds[5:])
    spread = f"{statistics.median(times):.0f} ms (of 25: {times[0]:.0f}-{times[-1]:.0f})"
    print(f"best 100 of {len(table) - 1:,} items: {spread}")


if __name__ == "__main__":
    main()
