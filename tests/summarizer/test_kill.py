"""kill -9: two processes share a job and die again and again; the store ends as if nothing had happened."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recbole_llmtrsr.summarizer.store.store import SummaryStore

ROOT = Path(__file__).parents[2]
N_CALLS, N_KILLS = 2000, 10  # 200 users of 50 events in chains of 10 blocks

# The real plan, executor and store, with a writer that takes 3 ms per text and logs each before it hands it over.
JOB = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.summarizer.keys import digest
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.summarize import plan_calls, summarize

store_path, log, seconds = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT), 0.003

class SlowWriter:
    name = "slow"
    def settings(self, kind, attempt=0): return {"writer": "slow"}
    def wording(self, kind): return []
    def report(self): return {}
    def run(self, jobs):
        for position, job in enumerate(jobs):
            time.sleep(seconds)
            text = f"{job.kind} {[item.line for item in job.items]} {[digest(text).hex() for text in job.inputs]}"
            os.write(log, (text + chr(10)).encode())
            yield [(position, GeneratedText(text))]

end = np.arange(200 * 50) + 1
items = [f"item {n}" for n in range(len(end) + 1)]
catalogue = ItemText.from_rows(["title"], {item: [item] for item in items})
histories = SimpleNamespace(items=end, begin=(end - 1) // 50 * 50, end=end)
settings = SummarySettings(summary="recurrent", summarize_remainder="no")
ids, writer = list(range(len(end))), SlowWriter()
calls = plan_calls(histories, ids, [catalogue[item] for item in items], items, writer, settings)
with SummaryStore(store_path) as store:
    summarize(ids, calls, writer, store, settings, lambda: writer)
"""


def start(store: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", JOB, str(store), str(log)], cwd=ROOT)


def written(log: Path) -> list[str]:
    """What writers wrote, in order; a line that is not finished yet is left out."""
    text = log.read_text() if log.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def content(store: Path) -> list[tuple[Any, ...]]:
    """Key, kind, answer, inputs and attempt of every row, by key."""
    with SummaryStore(store) as opened:
        records = list(opened.records(opened.keys()))
    return sorted((r.key, r.kind, r.answer.text, r.answer.finish, r.inputs, r.attempt) for r in records)


@pytest.mark.slow
def test_ten_kills_on_two_processes_leave_the_store_of_an_undisturbed_run(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "alone.sqlite", tmp_path / "alone.log")
    chance = random.Random(11)
    store, log = tmp_path / "store.sqlite", tmp_path / "log"
    processes = [start(store, log) for _ in range(2)]
    # Each kill waits for some progress, so that all of them fall into the job, whatever the speed of the machine.
    for after in sorted(chance.sample(range(1, N_CALLS - 300), N_KILLS)):
        deadline = time.monotonic() + 60
        while len(written(log)) < after and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.01))
        which = chance.randrange(2)
        processes[which].kill()
        assert processes[which].wait() == -9  # it had not ended by itself
        processes[which] = start(store, log)
    assert [process.wait(timeout=120) for process in (*processes, undisturbed)] == [0, 0, 0]

    expected = content(tmp_path / "alone.sqlite")
    assert len(expected) == len(written(tmp_path / "alone.log")) == N_CALLS
    assert content(store) == expected
    # A kill costs the one text that was written and not yet stored, at most.
    assert N_CALLS <= len(written(log)) <= N_CALLS + N_KILLS
