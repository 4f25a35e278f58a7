"""How much time of an evaluation, and of an epoch of training, is spent outside the backbone?

python benchmarks/evaluation_profile.py [--data=ml-100k|mind|...] [--data_path=<folder of their folders>]
                                        [--no_training] [--threads=<n>] [--device=cpu|cuda]
                                        [--<option>=<value> of a run]

The trainer evaluates all test users and trains one epoch on the latest target of every user, with the builtin backbone
(of any size: --builtin_hidden_size and similar options). The clock synchronizes a GPU whenever the part changes.

Both run twice: as in a run, which builds prompts on a second thread, and in a plain loop. With a second thread, the
table contains only the time of waiting for prompts, and with few cores that thread slows the forward pass; in the plain
loop, the table contains the time of every part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from common.clock import Clock
from common.machine import versions
from common.prompts import test_prompts
from common.runs import load_run, parsed, run_parser

from recbole_llmtrsr.data.loaders import prefetch
from recbole_llmtrsr.engine import scorer, scoring
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime.device import device_name
from recbole_llmtrsr.training import trainer as training
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

Loop = Callable[[Iterable[Any], Callable[[Any], Any]], Iterator[Any]]
FORWARD, BACKWARD, STEP = "the backbone's forward", "backward", "optimizer step"


def main() -> None:
    parser = run_parser(__doc__)
    parser.add_argument("--no_training", action="store_true")
    parser.add_argument("--device", default="cpu")
    known = parsed(parser)
    options = {"use_gpu": known.device != "cpu", "max_train_targets_per_user": 1}
    with tempfile.TemporaryDirectory() as folder:
        run = load_run(known.data, known.data_path, Path(folder), **options)
        model = get_model("LLMTRSR")(run.config, run.dataset).to(run.config["device"])
        trainer = LLMTRSRTrainer(run.config, model)
    warm_up, _ = test_prompts(run, model.prompts, 4)
    budget = TokenBudget(None, model.device, "warm-up")
    scorer.Scorer(model.eval().backbone, model.yes_id, model.no_id, budget).scores(warm_up.grouped())
    clock = Clock(model.device)
    watch(clock, trainer, model)
    print(f"{device_name(model.device)}; {versions()}")
    n, attention = len(run.loaders[2]._dataset), model.backbone.attention
    evaluation = (
        f"evaluation of {n:,} users, {run.loaders[2].candidates.report()['n_per_history']} candidates, {attention}"
    )
    loops = {"prompts on a second thread": prefetch.prefetched, "a plain loop": one_after_another}
    for name, loop in loops.items():
        measured(clock, model, loop, lambda: trainer.evaluate(run.loaders[2], load_best_model=False))
        print(f"\n{known.data}, {evaluation}; {name}\n")
        print(clock.table([FORWARD]), flush=True)
    if known.no_training:
        return
    for name, loop in loops.items():
        measured(clock, model, loop, lambda: trainer._train_epoch(run.loaders[0], 0))
        print(f"\n{known.data}, training on {len(run.dataset):,} targets; {name}\n")
        print(clock.table([FORWARD, BACKWARD, STEP]), flush=True)


def measured(clock: Clock, model: Any, loop: Loop, call: Callable[[], Any]) -> None:
    """Run a call with a loop over batches, after clearing cached prompts and the clock."""
    for module in (prefetch, training):
        module.prefetched = loop  # type: ignore[attr-defined]
        clock.wrap_iterator(module, "prefetched", "waiting for batches: loader, grouping, prompts")
    model.prompts._prefixes.clear()
    clock.seconds.clear()
    with clock.part():
        call()


def one_after_another(batches: Iterable[Any], prepare: Callable[[Any], Any]) -> Iterator[Any]:
    """`prefetched` without its thread."""
    return map(prepare, batches)


def watch(clock: Clock, trainer: Any, model: Any) -> None:
    """Assign the functions of evaluation and training to their parts."""
    clock.wrap(model, "predict", "division into passes")
    clock.wrap(model, "micro_batches", "division into passes")
    for module in (scorer, scoring):
        clock.wrap(module, "shared_prefix_rows", "layout of rows")
    clock.wrap(scorer.Scorer, "scores", "answer head and scores")
    clock.wrap(model, "calculate_loss", "answer head and loss")
    clock.wrap(model.backbone.decoder, "forward", FORWARD)
    clock.wrap(trainer.accelerator, "backward", BACKWARD)
    clock.wrap(trainer.accelerator, "clip_grad_norm_", STEP)
    clock.wrap(trainer.optimizer, "step", STEP)
    clock.wrap(trainer.optimizer, "zero_grad", STEP)
    clock.wrap(trainer.eval_collector, "eval_batch_collect", "RecBole's metrics")
    clock.wrap(trainer.evaluator, "evaluate", "RecBole's metrics")


if __name__ == "__main__":
    main()
