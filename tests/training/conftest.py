"""A tiny data set and options for runs of about twenty steps, and what of a run must not depend on stops."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
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
    **toy.SMALL,
    "metrics": ["MRR"],
    "topk": [3],
    "valid_metric": "MRR@3",
    "LLMTRSR.train_neg_sample_args": {"distribution": "uniform", "sample_num": 2},
    "LLMTRSR.learning_rate": 0.01,
    "learning_rate": 0.01,
}
# Times, and names that hold the time or chance.
_TIMES = ("seconds", "cost", "checkpoint", "command")  # the command names the folder
_FREE = ("result_dir", "resume", "checkpoint_minutes", "keep_states", "summary_store", "checkpoint_dir")

# One of the processes of a run. It is killed the given seconds after it has saved so many states of a model, or (0) at
# the end of its training.
_CHILD = """
import json, os, signal, sys, threading, time
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.training.state_folder import StateFolder

models, options, kill = json.loads(sys.argv[1])
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
"""


@pytest.fixture
def errors(tmp_path: Path) -> Callable[[], str]:
    """The last that the nursery's children said."""
    return lambda: (tmp_path / "errors.txt").read_text()[-3000:]


@pytest.fixture
def nursery(tmp_path: Path, warm_python: str) -> Callable[..., list[int]]:
    """Runs models with options in processes that may be killed, and tells how each ended."""

    def run(
        models: list[str],
        options: dict[str, Any],
        kill: dict[str, Any] | None = None,
        n: int = 1,
        environment: dict[str, str] | None = None,
    ) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = []
        for rank in range(n):
            order = [models, options, kill if kill and kill.get("rank", 0) == rank else None]
            here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            if n > 1:
                here |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
                here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **(environment or {})}
            with (tmp_path / "errors.txt").open("ab") as errors:
                command = [warm_python, "-c", _CHILD, json.dumps(order)]
                processes.append(subprocess.Popen(command, stderr=errors, env=here))
        return [process.wait(timeout=300) for process in processes]

    return run


@pytest.fixture
def toy_in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight users, thirteen items with titles."""
    monkeypatch.chdir(tmp_path)
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
            stage: {name: cost[name] for name in ("passes", "tokens", "histories", "candidates") if name in cost}
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
