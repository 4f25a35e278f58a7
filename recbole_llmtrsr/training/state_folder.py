"""A folder of saved states, of which the latest few are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.atomic_write import remove_drafts
from recbole_llmtrsr.training.state_file import read_state, write_state

_SUFFIX = ".safetensors"
_NUMBER = re.compile(r"\d{8,}")


class StateFolder:
    """Numbered states of one run; no other process may write there.

    Args:
        folder: made with the first state.
        keep: how many are kept, at least 1.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def latest(self) -> dict[str, Any] | None:
        """The latest state that can be read; None where there is none. Damaged ones are reported in the log."""
        for path in reversed(self._paths()):
            try:
                return read_state(path)
            except (ValueError, OSError) as error:
                getLogger().warning(f"{error}; using the previous state instead")
        return None

    def save(self, state: Mapping[str, Any]) -> bool:
        """Add a state and remove those that are too many; only the main process does.

        Returns:
            Whether it could be written; if not, the log says why, and the states before it stay.
        """
        if not processes.is_main():
            return True
        paths = self._paths()
        number = int(paths[-1].stem) + 1 if paths else 1
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_state(self._folder / f"{number:08d}{_SUFFIX}", state)
        except OSError as error:
            getLogger().warning(
                f"the training state cannot be saved in {self._folder} ({error}): training continues, but after a stop"
                " it would resume from an earlier state; free disk space, or make the folder writable"
            )
            return False
        for path in self._paths()[: -self._keep]:
            path.unlink()
        return True

    def remove(self) -> None:
        """Remove all states, and their folder unless somebody else keeps files there; only the main process does."""
        if not processes.is_main():
            return
        for path in self._paths():
            path.unlink()
        self.remove_drafts()
        with suppress(OSError):
            self._folder.rmdir()

    def remove_drafts(self) -> None:
        """Remove what a process that was killed while it saved left here."""
        remove_drafts(self._folder)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{_SUFFIX}") if _NUMBER.fullmatch(path.stem))
