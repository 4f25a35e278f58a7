"""Does a server withstand many valid, malformed and cancelled requests at once, over real connections?

python benchmarks/serving_load.py [--data=ml-100k|...] [--data_path=<folder of their folders>] [--n_requests=<n>]
                                  [--concurrency=<n>] [--threads=<n>] [--<option>=<value> of a run]

The benchmark trains a small LLMTRSR in an empty folder and serves it with `python -m recbole_llmtrsr.serve` on the
loopback. One request in ten is malformed, and one in ten disconnects before its answer. The others rank the test
candidates for known users, by id or by history, rank new texts, and explain rankings. Scores of test candidates are
compared with those of the trainer. Some valid requests are also sent one at a time; the last column of the table is the
ratio of both times. Memory is the server's resident set, after a warm-up and after each quarter of the requests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common.machine import processor, versions
from common.runs import parsed, run_parser

import recbole_llmtrsr
from recbole_llmtrsr.config.sources import flags
from recbole_llmtrsr.experiment.evaluation_stage import FinalTest
from recbole_llmtrsr.explain import candidate_scores, history_of
from recbole_llmtrsr.quick_start import compare

VALID, MALFORMED, CANCELLED = "valid", "malformed", "cancelled"
WARM_UP = 100  # number of requests before memory is first measured
N_USERS = 100  # whose candidates are ranked
OPTIONS: dict[str, Any] = {
    "epochs": 1,
    "max_train_targets_per_user": 2,
    "state": "WARNING",
    "show_progress": False,
    "result_dir": "run",
}
BAD = (
    b"{",
    b"\xff",
    b'{"user": "nobody", "candidates": ["1"]}',
    b'{"history": [], "candidates": ["1"]}',
    b'{"history": ["no such item"], "candidates": ["1"]}',
    b'{"user": "\\ud800", "candidates": [{}]}',
    b'{"candidates": ' + b"[" * 20_000,
    b" " * (2**20 + 1),
)


@dataclass
class Offline:
    """Scores and histories of the trainer's test by user, and a column for new texts."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    histories: dict[str, list[str]] = field(default_factory=dict)
    text_column: str = ""


@dataclass(frozen=True)
class Asked:
    """A request with its kind, path and body, and the expected scores."""

    kind: str
    path: str
    body: bytes
    expected: dict[str, float] | None = None


@dataclass(frozen=True)
class Answered:
    """An answer with its status (0 if the client disconnected), seconds, and the largest difference of scores."""

    kind: str
    status: int
    seconds: float
    difference: float = 0.0
    n_compared: int = 0


def main() -> None:
    parser = run_parser(__doc__)
    parser.add_argument("--n_requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=32)
    known = parsed(parser)
    data_path = {} if known.data_path is None else {"data_path": str(Path(known.data_path).resolve())}
    started_in = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            offline = trained(known.data, {**OPTIONS, **data_path, **flags(known.others)})
            asked = requests(offline, known.n_requests)
            with server(Path(folder), known.threads) as (port, process):
                alone = [ask(port, one) for one in asked[: max(1, len(asked) // 10)] if one.kind == VALID]
                run(port, asked[:WARM_UP], known.concurrency)
                before = counters(port)
                memory, answers, seconds = [resident(process)], [], 0.0
                for part in np.array_split(np.arange(len(asked)), 4):
                    start = time.perf_counter()
                    answers += run(port, [asked[i] for i in part], known.concurrency)
                    seconds += time.perf_counter() - start
                    memory.append(resident(process))
                counted = {name: value - before.get(name, 0.0) for name, value in counters(port).items()}
        finally:
            os.chdir(started_in)
    report(known, alone, answers, seconds, memory, counted)


def trained(data: str, options: dict[str, Any]) -> Offline:
    """Train a model and record the scores of its test."""
    offline, table = Offline(), FinalTest.table

    def noting(self: FinalTest, loader: Any) -> Any:
        dataset = loader._dataset
        offline.text_column = dataset.item_text.columns[0]
        users = dataset.field2id_token[dataset.uid_field][dataset.inter_feat[dataset.uid_field].unique()[:N_USERS]]
        for user in map(str, users):
            scores = candidate_scores(self._trainer, loader, user) or {}
            offline.scores[user] = {dataset.item_tokens[i]: score for i, score in scores.items()}
            offline.histories[user] = [dataset.item_tokens[i] for i in dataset.histories[history_of(user, dataset)]]
        return table(self, loader)

    FinalTest.table = noting  # type: ignore[method-assign]
    try:
        compare(["LLMTRSR"], data, config_dict=options)
    finally:
        FinalTest.table = table  # type: ignore[method-assign]
    return offline


def requests(offline: Offline, n: int) -> list[Asked]:
    """Create n requests in a fixed order."""
    drawn = np.random.default_rng(0)
    users = sorted(offline.scores)
    asked = []
    for number in range(n):
        user = users[drawn.integers(len(users))]
        history, candidates = offline.histories[user], list(offline.scores[user])
        kind = {8: MALFORMED, 9: CANCELLED}.get(number % 10, VALID)
        if kind == MALFORMED:
            asked.append(Asked(kind, "/rank", BAD[number // 10 % len(BAD)]))
        elif number % 10 in (0, 1, 2, 9):
            asked.append(Asked(kind, "/rank", dumped(user=user, candidates=candidates), offline.scores[user]))
        elif number % 10 in (3, 4, 5):
            asked.append(Asked(kind, "/rank", dumped(history=history, candidates=candidates), offline.scores[user]))
        elif number % 20 == 6:
            new = {offline.text_column: f"A title that nobody saw, number {number}"}
            asked.append(Asked(kind, "/rank", dumped(history=[*history[-8:], new], candidates=[*candidates, new])))
        elif number % 20 == 16:
            asked.append(Asked(kind, "/explain", dumped(user=user, candidates=candidates), offline.scores[user]))
        else:
            asked.append(Asked(kind, "/rank", dumped(history=history[: 1 + number % 9], candidates=candidates)))
    return asked


def dumped(**question: Any) -> bytes:
    return json.dumps(question).encode()


def run(port: int, asked: list[Asked], concurrency: int) -> list[Answered]:
    """Send requests with the given number of clients at a time."""
    with ThreadPoolExecutor(concurrency) as clients:
        return list(clients.map(lambda one: ask(port, one), asked))


def ask(port: int, asked: Asked) -> Answered:
    """Send a request over a new connection, and read the answer or disconnect before."""
    start = time.perf_counter()
    if asked.kind == CANCELLED:
        head = f"POST {asked.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(f"{head}Content-Length: {len(asked.body)}\r\n\r\n".encode() + asked.body)
            time.sleep(0.002 * (len(asked.body) % 10))
        return Answered(asked.kind, 0, time.perf_counter() - start)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", asked.path, asked.body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, HTTPException):
        return Answered(asked.kind, -1, time.perf_counter() - start)
    finally:
        connection.close()
    seconds = time.perf_counter() - start
    return Answered(asked.kind, answer.status, seconds, *compared(asked, answer.status, content))


def compared(asked: Asked, status: int, content: bytes) -> tuple[float, int]:
    """Return the largest difference from the trainer's scores, and the number of compared scores."""
    if status != 200 or asked.expected is None:
        return 0.0, 0
    told = json.loads(content)
    if asked.path == "/explain":
        found = {one["token"]: one["log_odds"] for one in told["candidates"]}
    else:
        found = {one["item"]: one["score"] for one in told["items"]}
    assert set(found) == set(asked.expected)
    return max(abs(found[item] - score) for item, score in asked.expected.items()), len(found)


@contextmanager
def server(folder: Path, threads: int) -> Iterator[tuple[int, psutil.Process]]:
    """Run the server's command on a free port of the loopback."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "recbole_llmtrsr.serve", "--run=run", "--port=0"]
    package = str(Path(recbole_llmtrsr.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": package}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        while (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())) is None:
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        yield int(found[1]), psutil.Process(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        errors = log.read_text().count("Traceback")
        print(f"the server exited with code {process.returncode} after signal {signal.SIGTERM}, tracebacks: {errors}")
    finally:
        process.kill()
        process.wait()


def resident(process: psutil.Process) -> float:
    """Return the resident memory in MiB."""
    return process.memory_info().rss / 2**20


def counters(port: int) -> dict[str, float]:
    """Read the server's counters."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in values.items()}


def report(
    known: argparse.Namespace,
    alone: list[Answered],
    answers: list[Answered],
    seconds: float,
    memory: list[float],
    counted: dict[str, float],
) -> None:
    print(f"{processor()}; {known.threads} threads of the server; {versions()}")
    print(
        f"{known.data}: {len(answers):,} requests, {known.concurrency} at once, {len(answers) / seconds:.0f} per second"
    )
    for kind in (VALID, MALFORMED, CANCELLED):
        statuses = Counter(str(one.status) if one.status > 0 else "none" for one in answers if one.kind == kind)
        print(f"{kind}: {', '.join(f'{n} x {status}' for status, n in sorted(statuses.items()))}")
    n_compared, largest = sum(one.n_compared for one in answers), max(one.difference for one in answers)
    print(f"largest difference from the trainer's scores: {largest:.1e} among {n_compared:,}")
    together = counted["recommender_batch_questions_sum"] / counted["recommender_batch_questions_count"]
    print(f"disconnected clients, as counted by the server: {counted['recommender_clients_left_total']:.0f}")
    print(f"requests per batch: {together:.1f} on average")
    print(f"resident memory (MiB) after the warm-up and each quarter: {', '.join(f'{m:.1f}' for m in memory)}\n")
    print("| valid requests | one by one (ms) | at once (ms) | times |\n|---|---:|---:|---:|")
    crowd = [one.seconds for one in answers if one.kind == VALID and one.status == 200]
    calm = [one.seconds for one in alone]
    for share in (50, 95):
        both = [1000 * float(np.percentile(one, share)) for one in (calm, crowd)]
        print(f"| p{share} | {both[0]:.1f} | {both[1]:.1f} | {both[1] / both[0]:.1f} |")


if __name__ == "__main__":
    main()
