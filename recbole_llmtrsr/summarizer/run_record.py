"""Record by which all runs of one command, resumed or not, read the same summaries."""

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
    """Calls without an answer, which no store holds, and all answers where the store is in memory.

    Args:
        folder: of the record, made on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def unanswered(self) -> dict[bytes, str]:
        """Key -> reason, of each call without an answer.

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
                f"{path} cannot be read ({error}): put it back as the run left it, or begin anew in another result_dir"
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
            OSError: it cannot be written.
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
