"""A folder with a toy data set, in which commands run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import toy


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The present folder of a module's tests: users u0 to u5, who chose seven of 13 items each."""
    folder = tmp_path_factory.mktemp("home")
    toy.write_atomic(folder / "data" / "toy", toy.toy_events(7, 7, 7, 7, 7, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder
