"""How much faster does the local writer answer many prompts than one at a time, as in the authors' code?

python benchmarks/generation.py [--model=<folder>] [--n_prompts=64] [--max_new_tokens=160] [--equal_tokens=64]
                                [--lengths mixed equal] [--repetitions=3] [--batches 16] [--places 16 32]
                                [--threads=<n>]

The prompts request summaries of blocks of ml-100k's histories. "Mixed" answers end where the model ends them; "equal"
ones all have `--equal_tokens` tokens. The ways alternate in one process: one prompt at a time and static batches with
transformers' `generate`, and places that a waiting prompt takes as soon as an answer ends. Without --model, the
benchmark creates a random Llama, of which a token that it writes ends an answer. Times are CPU seconds of this process,
which other programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import recbole
import torch
from common.machine import processor, versions
from common.timing import spread
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from recbole_llmtrsr.data.item_text import read_item_text
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.generators.batches import decode_in_batches
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.llm.generators.measure import Decode
from recbole_llmtrsr.llm.generators.places import decode_in_places
from recbole_llmtrsr.prompt.templates import templates_for

DATA = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
COLUMNS = ["movie_title", "release_year", "class"]
BLOCK_SIZE = 10
END_ID = 0
Way = tuple[str, Decode, int]  # name, function, answers in progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--n_prompts", type=int, default=64)
    parser.add_argument("--max_new_tokens", type=int, default=160)
    parser.add_argument("--equal_tokens", type=int, default=64)
    parser.add_argument("--lengths", nargs="+", choices=("mixed", "equal"), default=["mixed", "equal"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="*", default=[16])
    parser.add_argument("--places", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    known = parser.parse_args()
    torch.set_num_threads(known.threads)
    logging.set_verbosity_error()
    prompts = block_prompts(known.n_prompts)
    with tempfile.TemporaryDirectory() as made:
        folder = known.model or random_llama(Path(made), prompts)
        generator = TransformersGenerator(folder, dtype=torch.float32, device="cpu")
        model = generator._model
    rows = sorted(generator._tokens.rows(prompts, known.max_new_tokens), key=len, reverse=True)
    ways: list[Way] = [("one at a time", decode_in_batches, 1)]
    ways += [(f"batches of {n}", decode_in_batches, n) for n in known.batches]
    ways += [(f"{n} places", decode_in_places, n) for n in known.places]
    config, n_weights = model.config, sum(weight.numel() for weight in model.parameters()) / 1e6
    print(
        f"{known.model or 'random Llama'}: {n_weights:.1f} M weights, hidden size {config.hidden_size},"
        f" {config.num_hidden_layers} layers, fp32; {known.n_prompts} block prompts of ml-100k ({BLOCK_SIZE} items,"
        f" {statistics.mean(map(len, rows)):.0f} tokens on average); {known.repetitions} alternating repetitions"
    )
    print(f"{processor()}, {torch.get_num_threads()} threads; {versions()}")
    print("\n| lengths | way | median CPU s (least - most) | new tokens/s | times one at a time | equal answers |")
    print("|---|---|---|---|---|---|")
    ends = model.generation_config.eos_token_id if known.model else end_tokens(model, rows, known.max_new_tokens)
    for lengths in known.lengths:
        model.generation_config.eos_token_id = ends if lengths == "mixed" else []
        limit = known.max_new_tokens if lengths == "mixed" else known.equal_tokens
        measure(lengths, ways, generator, rows, limit, known.repetitions)


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
        pad_token_id=END_ID, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def end_tokens(model: PreTrainedModel, rows: list[list[int]], limit: int) -> list[int]:
    """The token that, if it ends answers, gives most of them different lengths."""
    model.generation_config.eos_token_id = []
    answers = [answer.ids for answer in decode_in_places(model, dict(enumerate(rows)), 16, limit)]
    written = {token for ids in answers for token in ids}
    lengths = {token: {ids.index(token) if token in ids else limit for ids in answers} for token in written}
    return [max(lengths, key=lambda token: len(lengths[token]))]


def measure(
    lengths: str, ways: list[Way], generator: TransformersGenerator, rows: list[list[int]], limit: int, repetitions: int
) -> None:
    """Print a line for every way, whose repetitions alternate."""
    model, seconds = generator._model, defaultdict[str, list[float]](list)
    answers: dict[str, dict[int, list[int]]] = {}
    for _, decode, n in ways:  # warm up
        list(decode(model, dict(enumerate(rows[:2])), n, 4))
    for _ in range(repetitions):
        for name, decode, n in ways:  # alternating, so that a slow minute of the machine affects all
            start = time.process_time()
            answers[name] = {answer.position: answer.ids for answer in decode(model, dict(enumerate(rows)), n, limit)}
            seconds[name].append(time.process_time() - start)
    alone = ways[0][0]
    counts = [len(ids) for ids in answers[alone].values()]
    lengths = f"{lengths}: {min(counts)} to {max(counts)}, mean {statistics.mean(counts):.0f}"
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(seconds[alone], times, strict=True)]
        same = sum(answers[name][position] == ids for position, ids in answers[alone].items())
        speed = sum(map(len, answers[name].values())) / statistics.median(times)
        ratio = "1.00" if name == alone else spread(ratios, 2)
        print(f"| {lengths} | {name} | {spread(times, 1)} | {speed:.0f} | {ratio} | {same}/{len(rows)} |", flush=True)


if __name__ == "__main__":
    main()
