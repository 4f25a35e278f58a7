"""What all tests share: seeds, a tiny data set of 6 users and 9 items, a Config over it, and a Python that is warm."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the process that hands tests out to others reads this file, too, and need not load torch
    from recbole_llmtrsr.config.config import Config

# Models of a few thousand weights gain nothing from threads, and lose much where other programs use the cores. Before
# torch is imported, and for the processes that tests start, too.
os.environ["OMP_NUM_THREADS"] = "1"

# The lines are out of order. 'once', 'twice' and 'thrice' have 1, 2 and 3 events; all of 'ties' happen at one time and
# keep the order of the lines; those of 'unix' are seconds apart, which float32 cannot tell, and hold one item twice.
INTER = """\
user_id:token item_id:token timestamp:float
unix i1 1600000006
unix i2 1600000000
twice i3 20
twice i2 10
six i1 1
six i2 2
ties i9 7
unix i7 1600000004
once i1 5
six i3 3
ties i8 7
unix i2 1600000001
thrice i1 11
ties i7 7
six i4 4
thrice i4 12
unix i3 1600000002
ties i6 7
six i6 6
unix i9 1600000003
ties i5 7
thrice i5 13
six i5 5
unix i8 1600000005
"""
ITEM = """\
item_id:token|title:token_seq|maker:token|price:float
i1|Red "Star" kettle|Oslo|1.5
i2|Blue kettle|Oslo|2.5
i3|Green lamp|Graz|3.5
i4|White lamp||4.5
i5|Small desk|Graz|5.5
i6|Large desk|Turku|6.5
i7|Wool rug|Turku|7.5
i8|Silk rug|Turku|8.5
i9|Oak chair|Oslo|9.5
"""


def _seed() -> None:
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> None:
    """What tests share is the same, whichever test makes it."""
    if fixturedef.scope != "function":
        _seed()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """No test draws what the tests before it left; shared fixtures are made before this one."""
    _seed()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a ``python`` and a ``torchrun`` that need not import first; see helpers/warm_python.py."""
    folder, script = tmp_path_factory.mktemp("warm"), Path(__file__).parent / "helpers" / "warm_python.py"
    start = f'#!/bin/sh\nexport WARM_PYTHON="{folder}/python"\nexec "{sys.executable}" -IS "{script}" "{folder}/socket"'
    for name, arguments in (("python", ""), ("torchrun", "-m torch.distributed.run")):
        (folder / name).write_text(f'{start} {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    serve = [sys.executable, str(script), "serve", f"{folder}/socket"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment) as server,
    ):
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n", (folder / "log").read_text()
        yield folder


@pytest.fixture
def warm_python(warm: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That ``python``; it stands for sys.executable, and first on PATH."""
    monkeypatch.setenv("PATH", f"{warm}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("sys.executable", str(warm / "python"))
    return str(warm / "python")


@pytest.fixture
def atomic_folder(tmp_path: Path) -> Path:
    """A data_path that holds the data set 'tiny'."""
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    (folder / "tiny.inter").write_text(INTER.replace(" ", "\t"))
    (folder / "tiny.item").write_text(ITEM.replace("|", "\t"))
    return folder.parent


@pytest.fixture
def make_config(tmp_path: Path, atomic_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Makes a Config of a model over a data set of ``atomic_folder``; what it leaves behind lies in ``tmp_path``."""
    from recbole_llmtrsr.config.config import Config
    from recbole_llmtrsr.registry import get_model

    monkeypatch.chdir(tmp_path)

    def make(model: str = "LLMTRSR", dataset: str = "tiny", **options: Any) -> Config:
        eval_args = {"mode": "uni2", **options.pop("eval_args", {})}
        fixed = {"data_path": str(atomic_folder), "eval_args": eval_args, "use_gpu": False, "show_progress": False}
        return Config(get_model(model), dataset, config_dict={**fixed, **options})

    return make
