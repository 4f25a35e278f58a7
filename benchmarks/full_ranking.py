"""How long does it take to rank a whole catalogue for a user, by texts and by ids?

python benchmarks/full_ranking.py [--data=ml-100k|mind|...] [--data_path=<folder of their folders>] [--n_histories=<n>]
                                  [--repetitions=<n>] [--threads=<n>] [--device=cpu|cuda] [--<option>=<value> of a run]

SASRec, HLLM and LiteLLM4Rec alternately rank the same test histories with their initial weights, as in an evaluation.
The item vectors of HLLM are computed before, as after the first batch, and their time is printed. For comparison,
LLMTRSR reads one prompt per history, as it would for each single item. The last column is the ratio to the time of
SASRec plus that of one prompt, with the minimum and maximum of the repetitions.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common.machine import processor, versions
from common.runs import Run, load_run, parsed, run_parser
from common.timing import by_turns, spread, timed

from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.llm.number_format import weights_dtype
from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime.device import device_name

SASREC, PROMPT = "SASRec", "LLMTRSR, one prompt"


def main() -> None:
    parser = run_parser(__doc__)
    parser.add_argument("--n_histories", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    known = parsed(parser)
    options = {"use_gpu": known.device != "cpu", "eval_args": {"mode": "full"}}
    calls: dict[str, Callable[[int], Any]] = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for name in (SASREC, "LiteLLM4Rec", "HLLM"):
            run = load_run(known.data, known.data_path, Path(folder), name, **options)
            model = get_model(name)(run.config, run.dataset).to(run.config["device"]).eval()
            batches = list(rows_of(run, known.n_histories))
            calls[name] = full_ranking(model, batches, numbers(run))
        n = sum(map(len, batches))
        with numbers(run):
            took, table = timed(model.device, model._item_table)
        run = load_run(known.data, known.data_path, Path(folder), **{**options, "max_full_sort_scores": sys.maxsize})
        calls[PROMPT], n_tokens = one_prompt(run, known.n_histories)
    seconds, _, _ = by_turns(model.device, calls, dict.fromkeys(calls, 1), known.repetitions)
    print(f"{device_name(model.device)}; {processor()}; {known.threads} threads; {versions()}")
    print(f"{known.data}: {len(table) - 1:,} items, {n:,} histories, prompts of {n_tokens:.0f} tokens")
    print(f"HLLM's vectors of all items: {took:.1f} s\n")
    print("| model | ms per history (least - most) | times SASRec and one prompt |\n|---|---:|---:|")
    both = [sum(pair) for pair in zip(seconds[SASREC], seconds[PROMPT])]
    for name, own in seconds.items():
        ratios = [one / other for one, other in zip(own, both)]
        print(f"| {name} | {spread([1000 * s / n for s in own], 2)} | {spread(ratios, 2)} |")


def rows_of(run: Run, n: int) -> Iterator[Any]:
    """Yield the first n test histories in the batches of an evaluation."""
    for rows, *_ in run.loaders[2]:
        if n <= 0:
            return
        yield rows[: min(n, len(rows))]
        n -= len(rows)


def numbers(run: Run) -> torch.autocast:
    """Return the number format of an evaluation; RecBole's models compute in fp32."""
    device = run.config["device"]
    half = weights_dtype(run.config.settings.backbone, device) == torch.bfloat16
    is_ours = hasattr(run.config.model_class, "check_config")
    return torch.autocast(device.type, torch.bfloat16, enabled=half and is_ours)


def full_ranking(model: Any, batches: list[Any], numbers: torch.autocast) -> Callable[[int], None]:
    """Return a call that scores every item for every row."""

    def call(_: int) -> None:
        with numbers:
            for rows in batches:
                model.full_sort_predict(rows.to(model.device))

    return call


def one_prompt(run: Run, n: int) -> tuple[Callable[[int], Any], float]:
    """Return a call that scores one item for every row in prebuilt prompts, and their mean length in tokens."""
    model = get_model("LLMTRSR")(run.config, run.dataset).to(run.config["device"]).eval()
    ids = [int(i) for rows in rows_of(run, n) for i in rows["history_id"]]
    prefixes = [model._prefix(i) for i in ids]
    candidates = [[model.prompts.candidate(1)] for _ in ids]
    prompts = GroupedPrompts(prefixes, candidates)
    n_tokens = statistics.fmean(len(p) + len(own[0]) for p, own in zip(prefixes, candidates))

    def call(_: int) -> None:
        with numbers(run):
            model.log_odds(prompts)

    return call, n_tokens


if __name__ == "__main__":
    main()
