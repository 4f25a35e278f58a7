"""Record that lets all runs of one command, resumed or not, read the same summaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.atomic_write import atomic_write
from recbole_llmtrsr.summarizer.store.exchange import export_store, import_store
from recbole_llmtrsr.summarizer.store.store import SummaryStore

UNANSWERED, ANSWERS = "unanswered.json", "answers.jsonl"


class RunRecord:
    """Records the calls that got no answer, and all answers if the store is in memory.

    Args:
        folder: where the record is saved; the first write creates it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def unanswered(self) -> dict[bytes, str]:
        """Return key -> reason for each call that got no answer.

        Raises:
            UserError: the file is damaged.
        """
        path = self._folder / UNANSWERED
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {bytes.fromhex(key): str(reason) for key, reason in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path} cannot be read ({error}): restore the file that the run wrote, or start a new run in another"
                " result_dir"
            ) from error

    def fill(self, store: SummaryStore) -> None:
        """Import the recorded answers into a store in memory.

        Raises:
            UserError: the file is damaged.
        """
        if store.path is None and (self._folder / ANSWERS).is_file():
            import_store(store, self._folder / ANSWERS)

    def keep(self, store: SummaryStore, unanswered: Mapping[bytes, str]) -> None:
        """Save the unanswered calls, and the answers of a store in memory.

        Raises:
            OSError: the record cannot be written.
        """
        if not unanswered and store.path is not None:
            return
        with atomic_write(self._folder / UNANSWERED) as file:
            file.write(json.dumps({key.hex(): reason for key, reason in unanswered.items()}).encode())
        if store.path is None:
            with atomic_write(self._folder / ANSWERS) as file:
                export_store(store, file)

    def remove(self) -> None:
        """Remove the record's files, and the folder if it is then empty."""
        for name in (UNANSWERED, ANSWERS):
            (self._folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()
