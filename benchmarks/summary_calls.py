"""How many calls do the summaries of all histories take, and how long does planning take?

python benchmarks/summary_calls.py [--dataset=ml-100k] [--block_size=5] [--<option>=<value>]
python benchmarks/summary_calls.py --users=100000 --events=50

The first command plans the histories of all targets of a data set; the second plans random histories with the given
numbers of users and events.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.summarizer.planning.make_plan import make_plan

Array = npt.NDArray[np.int64]
VARIANTS = (
    ("hierarchical", {}),
    ("hierarchical, merge_fan_in 4", {"merge_fan_in": 4}),
    ("recurrent", {"summary": "recurrent"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--block_size", type=int, default=5)
    parser.add_argument("--users", type=int)
    parser.add_argument("--events", type=int, default=50)
    known, others = parser.parse_known_args()
    items, begin, end = _random(known.users, known.events) if known.users else _of_dataset(known.dataset, others)
    size = known.block_size
    lengths = np.bincount(begin)[np.unique(begin)] + 1
    bound = int((lengths // size).sum())
    print(
        f"{'random' if known.users else known.dataset}: {len(lengths):,} users, {len(items):,} events,"
        f" {len(begin):,} histories (every prefix of every user), blocks of {size}"
    )
    print(f"sum over users of n/B: {bound:,}; of n/B + 1: {bound + len(lengths):,}; of n^2/2B: "
          f"{int((lengths**2 / 2 / size).sum()):,}\n")  # fmt: skip
    print(
        "| paradigm | unfinished block | block | update | merge | calls | without sharing | times fewer | planned in |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for remainder in ("no", "yes"):
        for name, options in VARIANTS:
            settings = SummarySettings(block_size=size, summarize_remainder=remainder, **options)  # type: ignore[arg-type]
            start = time.perf_counter()
            plan = make_plan(items, begin, end, settings)
            seconds = time.perf_counter() - start
            calls = plan.distinct()
            print(
                f"| {name} | {'summarized' if remainder == 'yes' else 'left to recent items'} | {calls['block']:,} |"
                f" {calls['update']:,} | {calls['merge']:,} | {len(plan):,} | {plan.requested:,} |"
                f" {plan.requested / len(plan):.1f} | {seconds:.1f} s |",
                flush=True,
            )
            del plan
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.2f} GiB")


def _of_dataset(name: str, arguments: list[str]) -> tuple[Array, Array, Array]:
    from recbole_llmtrsr.config.config import Config
    from recbole_llmtrsr.config.sources import flags
    from recbole_llmtrsr.registry import get_dataset, get_model

    config = Config(get_model("LLMTRSR"), name, [], {"max_train_targets_per_user": None, **flags(arguments)})
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    dataset.build()
    ids = np.flatnonzero(dataset.histories.end > dataset.histories.begin)
    return dataset.histories.items, dataset.histories.begin[ids], dataset.histories.end[ids]


def _random(users: int, events: int) -> tuple[Array, Array, Array]:
    end = np.arange(users * events)
    begin = end // events * events
    items = np.random.default_rng(0).integers(1, 50_000, users * events)
    return items, begin[end > begin], end[end > begin]


if __name__ == "__main__":
    main()
