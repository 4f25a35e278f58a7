"""The role of a summary writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from recbole_llmtrsr.data.item_text import Item


class SummaryWriter(Protocol):
    """Turns blocks and earlier texts into texts, many independent jobs at a time.

    A text is one line, and '' where there is nothing to say. It depends on its job alone: neither the other jobs of
    the call nor earlier calls may change it, because one text serves every history that needs the same job.
    """

    @property
    def name(self) -> str:
        """Tells writers apart whose texts differ."""
        ...

    def write(self, blocks: Sequence[Sequence[Item]]) -> list[str]:
        """Summarize each block on its own.

        Args:
            blocks: items of each job, oldest first.
        """
        ...

    def update(self, previous: Sequence[str], blocks: Sequence[Sequence[Item]]) -> list[str]:
        """Take one more block into account in each previous summary.

        Args:
            previous: the summary of each job so far.
            blocks: the items since then of each job, oldest first.
        """
        ...

    def merge(self, groups: Sequence[Sequence[str]]) -> list[str]:
        """Make one summary of each group.

        Args:
            groups: block summaries of each job, oldest first.
        """
        ...

    def report(self) -> dict[str, int]:
        """What was read, written, trimmed ... since this writer was made."""
        ...
