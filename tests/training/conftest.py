"""A tiny data set and options for runs of about twenty steps, and what of a run must not depend on stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toy

_OPTIONS: dict[str, Any] = {
    "data_path": "data",
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
    "epochs": 3,
    "stopping_step": 1,
    "train_batch_size": 6,
    "eval_batch_size": 64,
    "eval_args": {"mode": "uni3"},
    "candidate_exclusion": "target",
    "max_prompt_tokens": 400,
    "builtin_hidden_size": 16,
    "builtin_n_layers": 1,
    "builtin_n_heads": 2,
    "builtin_vocab_size": 400,
    "metrics": ["MRR"],
    "topk": [3],
    "valid_metric": "MRR@3",
    "LLMTRSR.train_neg_sample_args": {"distribution": "uniform", "sample_num": 2},
    "LLMTRSR.learning_rate": 0.01,
    "learning_rate": 0.01,
}
# Times, and names that hold the time or chance.
_TIMES = ("seconds", "cost", "checkpoint")
_FREE = ("result_dir", "resume", "checkpoint_minutes", "keep_states", "summary_store", "checkpoint_dir")

# A process that has imported all and makes children for each line it reads: the processes of a run with these options.
# One of them is killed the given seconds after it has saved so many states of a model, or (0) the one at the end of its
# training. The answer are the children's exit statuses.
_NURSERY = """
import json, os, signal, socket, sys, threading, time, traceback
import torch
torch.set_num_threads(1)
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.training.state_folder import StateFolder

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(order["n"]):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        status = 1
        try:
            if order["n"] > 1:
                here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": order["n"], "LOCAL_WORLD_SIZE": order["n"]}
                here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in here.items()})
                os.environ.update(order["environment"])
            kill = order["kill"]
            child(order["models"], order["options"], kill if kill and kill.get("rank", 0) == rank else None)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    print(json.dumps([os.waitpid(pid, 0)[1] for pid in pids]), flush=True)
"""


@pytest.fixture
def errors(tmp_path: Path) -> Callable[[], str]:
    """The last that the nursery's children said."""
    return lambda: (tmp_path / "errors.txt").read_text()[-3000:]


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Callable[..., list[int]]]:
    """Runs models with options in processes that may be killed, and tells how each ended."""
    with subprocess.Popen(
        [sys.executable, "-c", _NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors.txt").open("wb"),
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:

        def run(
            models: list[str],
            options: dict[str, Any],
            kill: dict[str, Any] | None = None,
            n: int = 1,
            environment: dict[str, str] | None = None,
        ) -> list[int]:
            assert process.stdin is not None
            assert process.stdout is not None
            order = {"models": models, "options": options, "kill": kill, "n": n}
            order["environment"] = environment or {}
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            return list(json.loads(process.stdout.readline()))

        yield run


@pytest.fixture
def toy_in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight users, thirteen items with titles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["test"])
    toy.write_atomic(tmp_path / "data" / "toy", toy.toy_events(*[7] * 8))


@pytest.fixture
def options(toy_in_empty_folder: None) -> dict[str, Any]:
    """Options of a run of about twenty steps on it."""
    return dict(_OPTIONS)


@pytest.fixture
def outcome() -> Callable[[Path], dict[str, Any]]:
    return _outcome


@pytest.fixture
def debris() -> Callable[[Path], list[str]]:
    return _debris


def _outcome(folder: Path) -> dict[str, Any]:
    """All that a comparison's folder tells, but for times: results, tables, weights."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        weights = torch.load(result["checkpoint"], weights_only=False)["state_dict"]
        counted = {
            stage: {
                name: value for name, value in cost.items() if name in ("passes", "tokens", "histories", "candidates")
            }
            for stage, cost in result["cost"].items()
            if isinstance(cost, dict)
        }
        for name in _TIMES:
            result.pop(name)
        for name in _FREE:
            result["options"].pop(name)
        if "summaries" in result:
            result["summaries"].pop("seconds", None)
        for validation in result["validations"]:
            assert validation.pop("seconds") > 0
        found[str(path.relative_to(folder))] = {**result, "counted": counted}
        found[f"{path.relative_to(folder)} weights"] = {name: weight.tolist() for name, weight in weights.items()}
    for path in sorted(folder.rglob("*.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found[str(path.relative_to(folder))] = [line for line in lines if ",cost,," not in line]  # they have times
    assert found
    return found


def _debris(folder: Path) -> list[str]:
    """Files that a finished run should not leave."""
    return [str(path) for path in folder.rglob("*") if "-draft" in path.name or "training-states" in path.parts]
