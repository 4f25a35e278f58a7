"""One job on two processes, of which one after the other is killed at random moments."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from recbole_llmtrsr.summarizer.store.store import SummaryStore

ROOT = Path(__file__).parents[3]
N_CALLS, N_KILLS = 400, 8
KEYS = [number.to_bytes(16, "big") for number in range(N_CALLS)]

# Makes all calls that are not in the store, a few claimed together, each put at once. An execution is logged before
# its answer is put, so that a kill between the two shows.
WORKER = """
import os, random, sys, time
from pathlib import Path
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.summarizer.store.store import Record, SummaryStore

keys = [number.to_bytes(16, "big") for number in range(int(sys.argv[3]))]
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with SummaryStore(Path(sys.argv[1])) as store:
    writer = store.writer_id("test", {})
    while missing := sorted(set(keys) - set(store.find(keys))):
        claims = store.claim(missing[:16])
        for key in claims.mine:
            time.sleep(0.004)
            os.write(log, f"{os.getpid()} {int.from_bytes(key, 'big')}\\n".encode())
            time.sleep(0.001)
            store.put(writer, [Record(key, "block", GeneratedText(f"text of {int.from_bytes(key, 'big')}"), ())])
        if claims.busy:
            time.sleep(0.02)
"""


def executions(log: Path) -> list[tuple[int, int]]:
    """(process, call) of each, in order; a line that is not finished yet is left out."""
    text = log.read_text() if log.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [(int(process), int(call)) for process, call in (line.split() for line in lines)]


def test_a_job_survives_kills_and_makes_no_call_twice_but_those_that_a_kill_hit(tmp_path: Path) -> None:
    store_path, log = tmp_path / "s.sqlite", tmp_path / "log"
    command = [sys.executable, "-c", WORKER, str(store_path), str(log), str(N_CALLS)]
    chance = random.Random(7)
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    killed = []
    # Each kill waits for some progress and hits the process at work, whatever the speed of the machine.
    for after in sorted(chance.sample(range(N_CALLS - 60), N_KILLS)):
        deadline = time.monotonic() + 30
        pids = [process.pid for process in processes]
        while len(done := executions(log)) < max(after, 1) or done[-1][0] not in pids:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.02))
        which = pids.index(done[-1][0])
        processes[which].kill()
        assert processes[which].wait() == -9  # it had not ended by itself
        killed.append(processes[which].pid)
        processes[which] = subprocess.Popen(command, cwd=ROOT)
    assert [process.wait(timeout=60) for process in processes] == [0, 0]

    done = executions(log)
    assert set(killed) <= {process for process, _ in done}
    times = Counter(call for _, call in done)
    hit = Counter(call for process, call in set(done) if process in killed)
    assert set(times) == set(range(N_CALLS))
    assert len(set(done)) == len(done)  # no process made a call twice
    assert [call for call in times if times[call] > 1 + hit[call]] == []
    assert sum(times.values()) - N_CALLS <= N_KILLS  # a kill hits one execution at most

    with SummaryStore(store_path) as store:
        assert store.keys() == KEYS
        texts = [answer.text for answer in store.find(KEYS).values()]
        assert texts == [f"text of {number}" for number in range(N_CALLS)]
        assert store.check_file() == []
        assert store._database.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "s.sqlite"]
