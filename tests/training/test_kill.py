"""kill -9 at ten moments of training and evaluation: the results are those of a run that was left alone."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_ten_kills_change_no_result_and_leave_no_file_half_written(
    tmp_path: Path,
    options: dict[str, Any],
    nursery: Callable[..., list[int]],
    errors: Callable[[], str],
    outcome: Callable[[Path], Any],
    debris: Callable[[Path], Any],
) -> None:
    models = ["SASRec", "LLMTRSR"]
    more = {"also_test": ["pop3"], "ablations": True, "LLMTRSR.epochs": 4, "SASRec.train_batch_size": 8}
    chance = random.Random(4)
    kills = [
        *[{"model": "SASRec", "states": n, "seconds": chance.uniform(0, 0.01)} for n in (1, 2)],
        {"model": "SASRec", "states": 0, "seconds": 0},
        *[{"model": "LLMTRSR", "states": chance.randint(1, 5), "seconds": chance.uniform(0, 0.03)} for _ in range(5)],
        *[{"model": "LLMTRSR", "states": 0, "seconds": chance.uniform(0, 0.05)} for _ in range(2)],  # in its tests
    ]

    def run(folder: str, kill: dict[str, Any] | None = None, **own: Any) -> int:
        places = {"result_dir": folder, "summary_store": f"{folder}.sqlite", "checkpoint_dir": f"{folder}-saved"}
        (status,) = nursery(models, {**options, **more, **places, **own}, kill)
        return status

    assert run("undisturbed", checkpoint_minutes=None) == 0, errors()
    for kill in kills:
        status = run("killed", kill, checkpoint_minutes=0, resume="auto")
        assert status == -signal.SIGKILL, (kill, status, errors())
    assert run("killed", checkpoint_minutes=0, resume="auto") == 0, errors()
    found, expected = outcome(tmp_path / "killed"), outcome(tmp_path / "undisturbed")
    assert found == expected
    assert len([name for name in expected if name.endswith("result.json")]) == 4  # also among other candidates
    assert debris(tmp_path / "killed") == []
    assert debris(tmp_path / "killed-saved") == []
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        path.name for path in (tmp_path / "undisturbed").iterdir()
    }
