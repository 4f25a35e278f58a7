"""How much faster does the local writer answer in batches than one prompt at a time, as in the authors' code?

python benchmarks/generation.py [--model=<folder>] [--n_prompts=64] [--max_new_tokens=160] [--repetitions=3]
                                [--batch_sizes 4 16 64] [--lengths=equal|mixed] [--threads=<n>]

The prompts request summaries of blocks of ml-100k's histories. Without --model, the benchmark creates a random Llama,
which has the speed of a trained model of its size, writes meaningless texts, and never ends an answer by itself. With
`--lengths=mixed`, answers end at different lengths, from an eighth of the limit to the limit; a batch then waits for
its longest answer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import recbole
import torch
from common.machine import processor, versions
from common.timing import spread
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList
from transformers.utils import logging

from recbole_llmtrsr.data.item_text import read_item_text
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.prompt.templates import templates_for

DATA = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
COLUMNS = ["movie_title", "release_year", "class"]
BLOCK_SIZE = 10
END_ID = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--n_prompts", type=int, default=64)
    parser.add_argument("--max_new_tokens", type=int, default=160)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--lengths", choices=("equal", "mixed"), default="equal")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    known = parser.parse_args()
    torch.set_num_threads(known.threads)
    logging.set_verbosity_error()
    prompts = block_prompts(known.n_prompts)
    with tempfile.TemporaryDirectory() as made:
        folder = known.model or random_llama(Path(made), prompts)
        generators = {size: TransformersGenerator(folder, dtype=torch.float32, device="cpu", batch_size=size)
                      for size in (1, *known.batch_sizes)}  # fmt: skip
        share_weights(generators, known.lengths, known.max_new_tokens)
        seconds, tokens, texts = measure(generators, prompts, known.max_new_tokens, known.repetitions)
    report(known, generators[1], seconds, tokens, texts)


def block_prompts(n_prompts: int) -> list[str]:
    """Build prompts for summaries of the first blocks of users, then of the second blocks, and so on."""
    texts = read_item_text(DATA / "ml-100k.item", "item_id", COLUMNS)
    events = [line.split("\t") for line in (DATA / "ml-100k.inter").read_text().splitlines()[1:]]
    histories = defaultdict(list)
    for user, item, *_ in sorted(events, key=lambda event: float(event[3])):
        histories[user].append(item)
    cut = [[h[i : i + BLOCK_SIZE] for i in range(0, len(h), BLOCK_SIZE)] for h in histories.values()]
    by_turn = [user_blocks[n] for n in range(max(map(len, cut))) for user_blocks in cut if n < len(user_blocks)]
    template = templates_for("movies").block
    return [template.format(items="\n".join(f"- {texts[i].line}" for i in block)) for block in by_turn[:n_prompts]]


def random_llama(folder: Path, texts: list[str]) -> str:
    """Create a small Llama with random weights, and a tokenizer trained on the texts."""
    tokenizer = train_tokenizer(texts, vocab_size=4000)
    tokenizer.eos_token = tokenizer.pad_token
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=None, eos_token_id=END_ID,
        pad_token_id=END_ID,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


class EndSomewhere(LogitsProcessor):
    """Ends every answer at a length that its prompt determines."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.width = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.width = self.width or input_ids.shape[1]
        # Padding has id 0, so a prompt's sum is the same in every batch.
        lengths = self.limit // 8 + input_ids[:, : self.width].sum(1) % (self.limit - self.limit // 8)
        scores[:, END_ID] = torch.where(input_ids.shape[1] - self.width + 1 >= lengths, torch.inf, -torch.inf)
        return scores


def share_weights(generators: dict[int, TransformersGenerator], lengths: str, limit: int) -> None:
    """Make all generators share one model, so that they differ only in the batch size."""
    model: Any = generators[1]._model
    if lengths == "mixed":
        if model.generation_config.pad_token_id != END_ID:
            raise SystemExit("--lengths=mixed requires the random model: remove --model")
        plain = model.generate
        model.generate = lambda **options: plain(**options, logits_processor=LogitsProcessorList([EndSomewhere(limit)]))
    for generator in generators.values():
        generator.__dict__["_model"] = model


def measure(
    generators: dict[int, TransformersGenerator], prompts: list[str], limit: int, repetitions: int
) -> tuple[dict[int, list[float]], int, dict[int, list[str]]]:
    """Measure the seconds of every repetition by batch size, tokens written, and texts by batch size."""
    seconds: dict[int, list[float]] = defaultdict(list)
    texts, tokens = {}, 0
    for generator in generators.values():  # warm up
        list(generator.generate(prompts[:1], 4))
    for _ in range(repetitions):
        for size, generator in generators.items():  # alternating, so that a slow minute of the machine affects all
            start = time.perf_counter()
            answers: dict[int, Any] = dict(generator.generate(prompts, limit))
            seconds[size].append(time.perf_counter() - start)
            texts[size] = [answers[i].text for i in range(len(prompts))]
            tokens = sum(answer.n_new_tokens for answer in answers.values())
    return seconds, tokens, texts


def report(
    known: argparse.Namespace,
    alone: TransformersGenerator,
    seconds: dict[int, list[float]],
    tokens: int,
    texts: dict[int, list[str]],
) -> None:
    model: Any = alone._model
    n_weights = sum(weight.numel() for weight in model.parameters()) / 1e6
    config = model.config
    name = known.model or "random Llama, which never ends an answer by itself"
    n_prompt_tokens = statistics.mean(map(alone.count_tokens, block_prompts(known.n_prompts)))
    print(
        f"{name}: {n_weights:.1f} M weights, hidden size {config.hidden_size}, {config.num_hidden_layers} layers, fp32"
    )
    print(
        f"{known.n_prompts} block prompts of ml-100k ({BLOCK_SIZE} items, {n_prompt_tokens:.0f} tokens on average),"
        f" at most {known.max_new_tokens} new tokens, lengths {known.lengths}, {tokens / known.n_prompts:.0f} written"
        f" on average; {known.repetitions} alternating repetitions"
    )
    print(f"{processor()}, {torch.get_num_threads()} threads; {versions()}\n")
    print("| prompts at a time | median s (least - most) | prompts/s | tokens/s | times one at a time | equal texts |")
    print("|---|---|---|---|---|---|")
    for size, times in seconds.items():
        median = statistics.median(times)
        ratios = [one / other for one, other in zip(seconds[1], times, strict=True)]
        same = sum(one == other for one, other in zip(texts[1], texts[size], strict=True))
        print(
            f"| {size} | {spread(times, 1)} | {known.n_prompts / median:.2f} | {tokens / median:.0f} |"
            f" {spread(ratios, 2) if size > 1 else '1.00'} | {same}/{known.n_prompts} |"
        )


if __name__ == "__main__":
    main()
