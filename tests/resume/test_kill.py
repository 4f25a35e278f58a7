"""kill -9 at ten moments of training and evaluation: the results are those of a run that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# A process that has imported all and makes one child for each line it reads: a run with these options, killed the given
# seconds after it has saved so many states of a model, or (0) the one at the end of its training. It answers with the
# child's exit status.
NURSERY = """
import json, os, signal, sys, threading, time, traceback
import torch
torch.set_num_threads(1)
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.resume.state_folder import StateFolder

def child(models, options, kill):
    sys.argv = ["test"]
    saved = []
    def met(folder, state):
        if not kill or kill["model"] not in str(folder._folder):
            return
        has_ended = state is not None and state["phase"] == "fitted"
        if len(saved) == kill["states"] if kill["states"] else has_ended:
            def die():
                time.sleep(kill["seconds"])
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Thread(target=die, daemon=True).start()
    save, latest = StateFolder.save, StateFolder.latest
    def met_when_saved(self, state):
        done = save(self, state)
        if kill and kill["model"] in str(self._folder):
            saved.append(state)
        met(self, state)
        return done
    def met_when_resumed(self):
        state = latest(self)
        met(self, state)
        return state
    StateFolder.save, StateFolder.latest = met_when_saved, met_when_resumed
    compare(models, "toy", config_dict=options)

for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(order["models"], order["options"], order["kill"])
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def test_ten_kills_change_no_result_and_leave_no_file_half_written(
    tmp_path: Path,
    options: dict[str, Any],
    outcome: Callable[[Path], Any],
    debris: Callable[[Path], Any],
) -> None:
    models = ["SASRec", "LLMTRSR"]
    more = {"also_test": ["pop3"], "probe": True, "LLMTRSR.epochs": 4, "SASRec.train_batch_size": 8}
    chance = random.Random(4)
    kills = [
        *[{"model": "SASRec", "states": n, "seconds": chance.uniform(0, 0.01)} for n in (1, 2)],
        {"model": "SASRec", "states": 0, "seconds": 0},
        *[{"model": "LLMTRSR", "states": chance.randint(1, 5), "seconds": chance.uniform(0, 0.03)} for _ in range(5)],
        *[{"model": "LLMTRSR", "states": 0, "seconds": chance.uniform(0, 0.05)} for _ in range(2)],  # in its tests
    ]
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors.txt").open("wb"),
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as nursery:

        def run(folder: str, kill: dict[str, Any] | None = None, **own: Any) -> int:
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            places = {"result_dir": folder, "summary_store": f"{folder}.sqlite", "checkpoint_dir": f"{folder}-saved"}
            order = {"models": models, "options": {**options, **more, **places, **own}, "kill": kill}
            nursery.stdin.write(json.dumps(order) + "\n")
            nursery.stdin.flush()
            return int(nursery.stdout.readline())

        assert run("undisturbed", checkpoint_minutes=None) == 0, (tmp_path / "errors.txt").read_text()[-2000:]
        for kill in kills:
            status = run("killed", kill, checkpoint_minutes=0, resume="auto")
            assert os.WTERMSIG(status) == signal.SIGKILL, (kill, status, (tmp_path / "errors.txt").read_text()[-2000:])
        assert run("killed", checkpoint_minutes=0, resume="auto") == 0, (tmp_path / "errors.txt").read_text()[-2000:]
    found, expected = outcome(tmp_path / "killed"), outcome(tmp_path / "undisturbed")
    assert found == expected
    assert len([name for name in expected if name.endswith("result.json")]) == 4  # also among other candidates
    assert debris(tmp_path / "killed") == []
    assert debris(tmp_path / "killed-saved") == []
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        path.name for path in (tmp_path / "undisturbed").iterdir()
    }
