"""The generator against a real server: `transformers serve` on the loopback with a tiny model of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llama import save_llama

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.llm.generators.server import ServerGenerator
from recbole_llmtrsr.llm.generators.server_client import parse_server

for package in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(package, reason="needs the extra 'serving'")

pytestmark = pytest.mark.slow
PROMPTS = ["a", "Heat and Fargo, both of them", "x y z", "é", "Heat and Fargo, both of them, twice as long", "ab"]
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)
START_SECONDS = 300  # at most, on a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("served") / "llama", 256, pad_token="<end>", chat_template=CHAT)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The base url of a server that was started for this module, and is killed at its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device=cpu"]
    command += ["--dtype=float32", "--host=127.0.0.1", f"--port={port}"]
    home = folder.parent / "home"
    (home / "hub").mkdir(parents=True)
    log = folder.parent / "log"
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_up(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def _is_up(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def served(model: str | Path, url: str, **options: Any) -> ServerGenerator:
    usual: dict[str, Any] = {"api_key": None, "concurrency": 4, "timeout": 60.0, "retries": 1}
    return ServerGenerator(*parse_server(f"openai:{model}@{url}"), **{**usual, **options})


def without_times(answers: dict[int, Any]) -> list[tuple[str, int, int, str]]:
    assert all(isinstance(answer, GeneratedText) for answer in answers.values())
    in_order = [answers[position] for position in sorted(answers)]
    return [(answer.text, answer.prompt_tokens, answer.new_tokens, answer.finish) for answer in in_order]


@pytest.mark.parametrize("max_new_tokens", [3, 24])
def test_its_answers_are_those_of_the_same_model_run_here(folder: Path, url: str, max_new_tokens: int) -> None:
    local = TransformersGenerator(str(folder), dtype=torch.float32, device="cpu")
    expected = without_times(dict(local.generate(PROMPTS, max_new_tokens)))
    generator = served(folder, url)
    assert without_times(dict(generator.generate(PROMPTS, max_new_tokens))) == expected
    assert len({text for text, *_ in expected}) > 1
    assert [n_tokens for _, n_tokens, *_ in expected] == [len(f"<user>{prompt}<answer>".encode()) for prompt in PROMPTS]
    assert generator.report() == {"requests": 6}


def test_a_model_that_it_does_not_serve_is_named_after_a_few_prompts(folder: Path, url: str) -> None:
    with pytest.raises(
        UserError, match="gave no answer to (17|18|19|20) prompts in a row .status 400: Server is pinned to"
    ):
        list(served("other", url).generate(["a"] * 20, 3))
