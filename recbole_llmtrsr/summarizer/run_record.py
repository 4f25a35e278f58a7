"""What the runs of one command keep of their summaries, so that all of them, resumed or not, read the same ones."""

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
    """Calls without an answer, which a store does not keep, and the answers where no file of a store keeps them.

    Args:
        folder: of the record, made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def unanswered(self) -> dict[bytes, str]:
        """Why each call without an answer got none, by key.

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
        """Put the answers that were kept into a store in memory.

        Raises:
            UserError: the file is damaged.
        """
        if store.path is None and (self._folder / ANSWERS).is_file():
            import_store(store, self._folder / ANSWERS)

    def keep(self, store: SummaryStore, unanswered: Mapping[bytes, str]) -> None:
        """Write what has to be known again.

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
        """Remove what was kept, and the folder unless other files lie there."""
        for name in (UNANSWERED, ANSWERS):
            (self._folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()
