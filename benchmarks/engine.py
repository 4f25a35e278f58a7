"""How near to its arithmetic ceiling does shared-prefix scoring come, and how much faster is it than the other ways?

python benchmarks/engine.py [--data=ml-100k|mind|amazon-industrial] [--data_path=<folder of their folders>]
                            [--shape=builtin|<hidden>x<layers>|qwen2.5-0.5b|qwen2.5-1.5b|qwen2.5-7b]
                            [--candidates 21 101] [--n_histories=48] [--repetitions=3] [--threads=<n>] [--train]
                            [--profile] [--device=cpu|cuda] [--dtype=float32|bfloat16] [--<option>=<value> of a run]

Real prompts of test histories, random weights, the builtin tokenizer whatever the shape. Every way starts from token
sections, lays out its own rows and ends with the same table of scores, which is compared. All run by turns; each with
the batch size that a first pass found fastest for it. A ratio is the other way's seconds over ours in the same turn.

Its ceiling is the other way's operations over those of ours, which count real tokens alone. `ceiling` counts the
causal half of the other's attention, padding included; `as computed` all T x T pairs where its kernel computes them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common.machine import processor, versions
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from recbole_llmtrsr.config import Config
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders import make_loaders
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.assembly import PromptedBackbone, assemble
from recbole_llmtrsr.model.operations import (
    FIXED_WIDTH,
    OperationCosts,
    Work,
    cached_prefix_work,
    full_logits_work,
    plain_work,
    shared_prefix_work,
)
from recbole_llmtrsr.model.probe import probe
from recbole_llmtrsr.model.rows import plain_rows, shared_prefix_rows
from recbole_llmtrsr.model.scoring import score_plain, score_shared_prefix
from recbole_llmtrsr.registry import get_dataset, get_model
from recbole_llmtrsr.summaries import make_summaries

OPTIONS = {
    "amazon-industrial": {"domain": "products", "item_text_fields": ["title", "brand", "description"]},
}
# Hidden and intermediate size, layers, heads, key heads, vocabulary, tied embeddings.
QWEN = {
    "qwen2.5-0.5b": (896, 4864, 24, 14, 2, 151936, True),
    "qwen2.5-1.5b": (1536, 8960, 28, 12, 2, 151936, True),
    "qwen2.5-7b": (3584, 18944, 28, 28, 4, 152064, False),
}
SAME = {torch.float32: 1e-4, torch.bfloat16: 0.05}
N_TRAIN_HISTORIES = 8


@dataclass(frozen=True)
class Prompts:
    """B histories, shortest prefix first; each has the same number of candidates, the target among them first."""

    prefixes: list[list[int]]
    candidates: list[list[list[int]]]

    def parts(self, size: int) -> Iterator[Prompts]:
        for i in range(0, len(self.prefixes), size):
            yield Prompts(self.prefixes[i : i + size], self.candidates[i : i + size])

    def first_candidates(self, n: int) -> Prompts:
        return Prompts(self.prefixes, [own[:n] for own in self.candidates])

    def every(self, n: int) -> Prompts:
        """n of the histories, evenly spaced."""
        n = min(n, len(self.prefixes))
        chosen = [i * len(self.prefixes) // n for i in range(n)]
        return Prompts([self.prefixes[i] for i in chosen], [self.candidates[i] for i in chosen])

    def __len__(self) -> int:
        return sum(map(len, self.candidates))


@dataclass(frozen=True)
class Way:
    """A way to score: scores of a batch [B, C], its work by whether attention counts dense, and batch sizes to try."""

    name: str
    score: Callable[[PromptedBackbone, Prompts, int], Tensor]
    work: Callable[[Prompts, int, bool], Work]
    sizes: Sequence[int]


def score_ours(parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    """`size` histories at a time."""
    return torch.cat([_ours(parts, part) for part in prompts.parts(size)])


def _ours(parts: PromptedBackbone, part: Prompts) -> Tensor:
    rows = shared_prefix_rows(part.prefixes, part.candidates, parts.backbone.pad_id)
    return score_shared_prefix(parts.backbone, rows, parts.yes_id, parts.no_id)


def work_of_ours(prompts: Prompts, size: int, dense: bool) -> Work:
    pairs = zip(prompts.prefixes, prompts.candidates)
    return sum((shared_prefix_work(len(p), list(map(len, own))) for p, own in pairs), Work())


def score_rows(parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    """`size` rows at a time, padded to the longest of them."""
    rows = plain_rows(prompts.prefixes, prompts.candidates, parts.backbone.pad_id)
    return score_plain(parts.backbone, rows, parts.yes_id, parts.no_id, size)


def work_of_rows(prompts: Prompts, size: int, dense: bool) -> Work:
    lengths = [len(p) + len(c) for p, own in zip(prompts.prefixes, prompts.candidates) for c in own]
    batches = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    # Rows of one length need no mask, and then the kernel skips what lies ahead.
    works = (plain_work(len(rows), max(rows), dense=dense and len(set(rows)) > 1) for rows in batches)
    return sum(works, Work())


def score_cached(parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    """`size` histories at a time: keys and values of the prefix once, then copied for each of its candidates."""
    return torch.cat([_cached(parts, part) for part in prompts.parts(size)])


def _cached(parts: PromptedBackbone, part: Prompts) -> Tensor:
    backbone = parts.backbone
    prefixes, prefix_mask = padded(part.prefixes, backbone)
    past = backbone.decoder(input_ids=prefixes, attention_mask=prefix_mask, use_cache=True).past_key_values
    n = len(part.candidates[0])
    past.batch_repeat_interleave(n)
    ids, mask = padded([c for own in part.candidates for c in own], backbone)
    begins = prefix_mask.sum(1).repeat_interleave(n)
    hidden = backbone.decoder(
        input_ids=ids,
        attention_mask=torch.cat([prefix_mask.repeat_interleave(n, 0), mask], 1),
        position_ids=begins[:, None] + torch.arange(ids.shape[1], device=ids.device),
        past_key_values=past,
        use_cache=True,
    ).last_hidden_state
    last = hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
    weight: Any = backbone.output_head.weight
    logits = F.linear(last.float(), weight[[parts.yes_id, parts.no_id]].float())
    return (logits[:, 0] - logits[:, 1]).view(-1, n)


def work_of_cached(prompts: Prompts, size: int, dense: bool) -> Work:
    total = Work()
    for part in prompts.parts(size):
        width = max(len(c) for own in part.candidates for c in own)
        one = cached_prefix_work(max(map(len, part.prefixes)), len(part.candidates[0]), width)
        total += one * len(part.prefixes)
    return total


def score_as_authors(parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    """One prompt at a time, padded to 2,048 tokens; the whole vocabulary at all positions, then the two answers."""
    scores = []
    for prefix, own in zip(prompts.prefixes, prompts.candidates):
        for candidate in own:
            ids, mask = padded([[*prefix, *candidate]], parts.backbone, FIXED_WIDTH)
            logits = parts.backbone.lm(input_ids=ids, attention_mask=mask, use_cache=False).logits
            answers = logits[0, len(prefix) + len(candidate) - 1, [parts.yes_id, parts.no_id]].float()
            scores.append(answers[0] - answers[1])
    return torch.stack(scores).view(len(prompts.prefixes), -1)


def padded(sections: Sequence[Sequence[int]], backbone: Backbone, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Ids and mask of sections padded on the right. [N, width]"""
    width = width or max(map(len, sections))
    ids = [[*section, *[backbone.pad_id] * (width - len(section))] for section in sections]
    mask = [[1] * len(section) + [0] * (width - len(section)) for section in sections]
    return torch.tensor(ids, device=backbone.device), torch.tensor(mask, device=backbone.device)


OURS = Way("shared prefix (ours)", score_ours, work_of_ours, (1, 2, 4, 8, 16))
PLAIN = Way("plain rows", score_rows, work_of_rows, (4, 8, 16, 32, 64))
CACHED = Way("cached prefix", score_cached, work_of_cached, (1, 2, 4, 8))


def main() -> None:
    known, others = arguments()
    sys.argv = [sys.argv[0], *others]
    torch.set_num_threads(known.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        parts, prompts, seconds_per_prompt = prepare(known, Path(folder))
    describe(known, parts, prompts, seconds_per_prompt)
    print("\n## Scoring\n")
    for n in known.candidates:
        with torch.inference_mode():
            scoring(known, parts, prompts.first_candidates(n))
    if known.train:
        print("\n## A training step\n")
        for n_negatives in (1, 20):
            training(known, parts, prompts.every(N_TRAIN_HISTORIES).first_candidates(1 + n_negatives))


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("ml-100k", "mind", "amazon-industrial"), default="ml-100k")
    parser.add_argument("--data_path", help="folder that holds <data>/<data>.inter; ml-100k needs none")
    parser.add_argument("--shape", default="builtin")
    parser.add_argument("--candidates", type=int, nargs="+", default=[21, 101])
    parser.add_argument("--n_histories", type=int, default=48)
    parser.add_argument("--n_authors", type=int, default=4, help="prompts of the slow procedure of the authors")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--profile", action="store_true", help="name the operators that our scoring spends time in")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    return parser.parse_known_args()


def prepare(known: argparse.Namespace, folder: Path) -> tuple[PromptedBackbone, Prompts, float]:
    """A random backbone, prompts of test histories, and the seconds that making one prefix took."""
    n_candidates = max(*known.candidates, 21 if known.train else 2)
    options: dict[str, Any] = {"candidate_dir": str(folder), "summary_store": None, "show_progress": False}
    options |= {"state": "WARNING", "eval_args": {"mode": f"uni{n_candidates - 1}"}, "use_gpu": False}
    options |= OPTIONS.get(known.data, {}) | ({"data_path": known.data_path} if known.data_path else {})
    config = Config(get_model("LLMTRSR"), known.data, [], options)
    dataset = get_dataset(get_model("LLMTRSR"))(config)
    loaders, _ = make_loaders(config, dataset)
    make_summaries(config, dataset, loaders)
    asked = loaders[0]._dataset
    parts = assemble(config.settings, asked, torch.device("cpu"), config["seed"])
    if known.shape != "builtin":
        parts = PromptedBackbone(random_backbone(known.shape, parts.backbone), parts.prompts, parts.yes_id, parts.no_id)
    parts.backbone.to(known.device, getattr(torch, known.dtype)).eval()
    if reason := probe(parts.backbone, parts.yes_id, parts.no_id):
        raise SystemExit(f"shared-prefix scoring is not exact here: {reason}")

    chosen, items = [], []
    for rows, _, positives, _ in loaders[2]:
        n = len(positives)
        chosen += rows[HISTORY_ID][:n].tolist()
        items += rows[asked.iid_field].view(-1, n).T.tolist()
    wanted = min(known.n_histories, len(chosen))
    picked = [i * len(chosen) // wanted for i in range(wanted)]
    start = time.perf_counter()
    made = {i: parts.prompts.prefix(chosen[i], asked.summary(chosen[i]), asked.histories[chosen[i]]) for i in picked}
    seconds = (time.perf_counter() - start) / wanted
    picked.sort(key=lambda i: len(made[i]))
    sections = [[parts.prompts.candidate(item) for item in items[i]] for i in picked]
    return parts, Prompts([list(made[i]) for i in picked], sections), seconds


def random_backbone(shape: str, builtin: Backbone) -> Backbone:
    """A Qwen2-type model with the builtin tokenizer."""
    if shape in QWEN:
        hidden, intermediate, layers, heads, key_heads, vocabulary, tied = QWEN[shape]
    elif match := re.fullmatch(r"(\d+)x(\d+)", shape):
        hidden, layers = int(match[1]), int(match[2])
        intermediate, heads, vocabulary, tied = 3 * hidden, max(1, hidden // 64), len(builtin.tokenizer), True
        key_heads = heads
    else:
        raise SystemExit(f"--shape must be builtin, <hidden>x<layers> or one of {', '.join(QWEN)}, got {shape!r}")
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads, max_position_embeddings=4096,
        tie_word_embeddings=tied, pad_token_id=builtin.pad_id, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return Backbone(Qwen2ForCausalLM(config), builtin.tokenizer, shape)


def scoring(known: argparse.Namespace, parts: PromptedBackbone, prompts: Prompts) -> None:
    ways = (OURS, PLAIN, CACHED)
    sizes = {way.name: fastest_size(known, way, parts, prompts.every(8)) for way in ways}
    few = prompts.every(known.n_authors).first_candidates(1)
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    seconds_of_few, scores = [], {}
    for _ in range(known.repetitions):  # by turns, so that a slow minute of the machine meets all
        for way in ways:
            took, scores[way.name] = timed(known, lambda way=way: way.score(parts, prompts, sizes[way.name]))
            seconds[way.name].append(took)
        took, scores_of_few = timed(known, lambda: score_as_authors(parts, few, 1))
        seconds_of_few.append(took * len(prompts) / len(few))
    ours, allowed = scores[OURS.name], SAME[parts.backbone.transformer.dtype]
    differences = {way.name: float((scores[way.name] - ours).abs().max()) for way in ways}
    authors = f"authors' procedure (scaled from {len(few)} prompts)"
    differences[authors] = float((scores_of_few - score_ours(parts, few, 1)).abs().max())
    seconds[authors], sizes[authors] = seconds_of_few, 1
    if not max(differences.values()) <= allowed:
        raise SystemExit(f"scores differ by more than {allowed}: {differences}")

    vocabulary = parts.backbone.output_head.weight.shape[0]
    works = {way.name: tuple(way.work(prompts, sizes[way.name], dense) for dense in (False, True)) for way in ways}
    works[authors] = tuple(full_logits_work(len(prompts), int(vocabulary), dense=dense) for dense in (False, True))
    print(f"{len(ours[0])} candidates; scores vary by {float(ours.std()):.3f} (standard deviation)\n")
    table(parts, seconds, works, sizes, differences, len(prompts.prefixes))
    if known.profile:
        with torch.profiler.profile() as profile:
            score_ours(parts, prompts, sizes[OURS.name])
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=16, max_name_column_width=40))


def training(known: argparse.Namespace, parts: PromptedBackbone, prompts: Prompts) -> None:
    """Forward, backward and AdamW step on the same samples; the step has rate 0, so that all repetitions are alike."""
    backbone = parts.backbone.train()
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.0)
    labels = torch.tensor([1.0] + [0.0] * (len(prompts.candidates[0]) - 1), device=backbone.device)

    def backwards(way: Way, size: int) -> list[Prompts]:
        # Accumulated: plain rows of all candidates at once exceed most memories.
        return list(prompts.parts(size if way is OURS else max(1, size // len(labels))))

    def step(way: Way, size: int) -> dict[str, Tensor]:
        optimizer.zero_grad()
        for part in backwards(way, size):
            scores = way.score(parts, part, size)
            F.binary_cross_entropy_with_logits(scores, labels.expand_as(scores), reduction="sum").backward()
        optimizer.step()
        return {name: p.grad.detach().clone() for name, p in backbone.named_parameters() if p.grad is not None}

    sizes, ways = {}, (OURS, PLAIN)
    for way in ways:
        times = {n: timed(known, lambda w=way, n=n: step(w, n))[0] for n in way.sizes for _ in range(2)}
        sizes[way.name] = min(times, key=times.__getitem__)
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    gradients: dict[str, dict[str, Tensor]] = {}
    for _ in range(known.repetitions):
        for way in ways:
            took, gradients[way.name] = timed(known, lambda way=way: step(way, sizes[way.name]))
            seconds[way.name].append(took)
    backbone.eval()
    largest = max(float(g.abs().max()) for g in gradients[OURS.name].values())
    differences = {
        way.name: max(float((g - gradients[OURS.name][k]).abs().max()) for k, g in gradients[way.name].items())
        / largest
        for way in ways
    }
    allowed = SAME[backbone.transformer.dtype]
    if not max(differences.values()) <= allowed:
        raise SystemExit(f"gradients differ by more than {allowed} of the largest: {differences}")
    # Forward once, backward twice.
    works = {
        way.name: tuple(
            sum((way.work(part, sizes[way.name], dense) for part in backwards(way, sizes[way.name])), Work()) * 3
            for dense in (False, True)
        )
        for way in ways
    }
    print(f"1 positive : {len(labels) - 1} negatives, {len(prompts.prefixes)} histories; differences are of gradients,")
    print("relative to the largest element\n")
    table(parts, seconds, works, sizes, differences, len(prompts.prefixes))


def fastest_size(known: argparse.Namespace, way: Way, parts: PromptedBackbone, sample: Prompts) -> int:
    seconds = {}
    for _ in range(2):  # the first pass warms up
        for size in way.sizes:
            seconds[size], _ = timed(known, lambda size=size: way.score(parts, sample, size))
    return min(seconds, key=seconds.__getitem__)


def timed(known: argparse.Namespace, call: Callable[[], Any]) -> tuple[float, Any]:
    wait = torch.cuda.synchronize if known.device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    result = call()
    wait()
    return time.perf_counter() - start, result


def table(
    parts: PromptedBackbone,
    seconds: dict[str, list[float]],
    works: dict[str, tuple[Work, ...]],
    sizes: dict[str, int],
    differences: dict[str, float],
    n_histories: int,
) -> None:
    """One line per way; ratios, ceilings and shares are against ours."""
    costs = OperationCosts.of(parts.backbone)
    counted = {name: [costs.operations(work) for work in both] for name, both in works.items()}
    ours, least = seconds[OURS.name], counted[OURS.name][0]
    print("| way | batch | tokens | ms per history (least - most) | GFLOP/s | ours is times faster | ceiling | reached"
          " | as computed | reached | largest difference |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, times in seconds.items():
        milliseconds = [1000 * t / n_histories for t in times]
        ratios = [other / one for one, other in zip(ours, times, strict=True)]
        ratio, rate = statistics.median(ratios), counted[name][1] / statistics.median(times) / 1e9
        cells = ["1"] + [""] * 5
        if name != OURS.name:
            ceilings = [n / least for n in counted[name]]
            cells = [f"{ratio:.2f} ({min(ratios):.2f} - {max(ratios):.2f})"]
            cells += [text for c in ceilings for text in (f"{c:.2f}", f"{ratio / c:.0%}")] + [
                f"{differences[name]:.0e}"
            ]
        print(f"| {name} | {sizes[name]} | {works[name][0].tokens:,} | {statistics.median(milliseconds):.1f}"
              f" ({min(milliseconds):.1f} - {max(milliseconds):.1f}) | {rate:.1f} | {' | '.join(cells)} |")  # fmt: skip
    print(flush=True)


def describe(known: argparse.Namespace, parts: PromptedBackbone, prompts: Prompts, seconds_per_prompt: float) -> None:
    config, costs = parts.backbone.transformer.config, OperationCosts.of(parts.backbone)
    prefixes = list(map(len, prompts.prefixes))
    sections = [len(c) for own in prompts.candidates for c in own]
    print(
        f"{known.data}, {len(prefixes)} test histories; prefix {statistics.mean(prefixes):.0f} tokens on average"
        f" ({min(prefixes)} - {max(prefixes)}), candidate {statistics.mean(sections):.0f} ({min(sections)} -"
        f" {max(sections)}); a prefix is made in {1000 * seconds_per_prompt:.1f} ms, before all that is timed"
    )
    print(
        f"{known.shape}: hidden size {config.hidden_size}, {config.num_hidden_layers} layers, random weights,"
        f" {known.dtype}; {costs.per_token / 1e6:.2f} M operations per token and {costs.per_pair} per pair"
    )
    print(
        f"{machine(known)}, {torch.get_num_threads()} threads, matrix products at {peak(known):.0f} GFLOP/s;"
        f" {known.repetitions} repetitions by turns; {versions()}"
    )


def peak(known: argparse.Namespace, n: int = 1024) -> float:
    """GFLOP/s of a square matrix product, the best of several."""
    a = torch.randn(n, n, device=known.device, dtype=getattr(torch, known.dtype))
    return 2 * n**3 / min(timed(known, lambda: a @ a)[0] for _ in range(5)) / 1e9


def machine(known: argparse.Namespace) -> str:
    """The processor or the GPU."""
    return torch.cuda.get_device_name() if known.device.startswith("cuda") else processor()


if __name__ == "__main__":
    main()
