"""Conversion of a plan's call numbers into a writer's jobs and a store's keys."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.summarizer.jobs import KINDS, Job
from recbole_llmtrsr.summarizer.keys import call_key, canonical, digest, item_digest
from recbole_llmtrsr.summarizer.planning.plan import Plan
from recbole_llmtrsr.summarizer.store.rows import REPLACED
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter


class Calls:
    """Converts the call numbers of a plan into jobs and store keys for one writer.

    Args:
        plan: the planned calls.
        items: the items, by item id.
        tokens: item tokens of the user's files, by item id.
        writer: the writer, whose settings are part of every key.

    Attributes:
        plan: the planned calls.
        texts: text of each call by its number, or None until the call is done.
        used_keys: key of each text in the store, or None if the store does not hold the text.
    """

    def __init__(self, plan: Plan, items: Sequence[Item], tokens: Sequence[str], writer: SummaryWriter) -> None:
        self.plan = plan
        self.texts: list[str | None] = [None] * len(plan)
        self.used_keys: list[bytes | None] = [None] * len(plan)
        self._items, self._tokens = items, tokens
        self._item_digests = [item_digest(item) for item in items]
        self._writers = {
            (kind, attempt): digest(canonical(writer.settings(kind, attempt))) for kind in KINDS for attempt in (0, 1)
        }

    def ready(self, number: int) -> bool:
        """Whether all earlier texts that a call reads are available."""
        return all(self.texts[i] is not None for i in self.plan.inputs_of(number))

    def lines(self, number: int) -> list[str]:
        """Return the texts of the items that a call reads, oldest first."""
        return [self._items[i].line for i in self.plan.items_of(number).tolist()]

    def job(self, number: int) -> Job:
        """Return the job of a call; raise KeyError if an earlier text is missing."""
        items = tuple(self._items[i] for i in self.plan.items_of(number).tolist())
        return Job(self.plan.kind(number), items, self._inputs(number))

    def key(self, number: int, attempt: int = 0) -> bytes:
        """Return the content address of a call's answer; raise KeyError if an earlier text is missing."""
        kind = self.plan.kind(number)
        items = [self._item_digests[i] for i in self.plan.items_of(number).tolist()]
        return call_key(self._writers[kind, attempt], kind, items, self._inputs(number))

    def items_behind(self, number: int) -> tuple[Item, ...]:
        """Return all items that a call's text covers, directly or through earlier texts, oldest first."""
        return tuple(self._items[i] for i in self.plan.items_behind(number))

    def provenance(self, number: int) -> tuple[str, ...]:
        """Return a call's inputs as the store records them: keys of earlier texts or 'replaced', then item tokens."""
        items = [f"item:{self._tokens[i]}" for i in self.plan.items_of(number).tolist()]
        keys = [self.used_keys[i] for i in self.plan.inputs_of(number)]
        return tuple([*(f"call:{key.hex()}" if key else REPLACED for key in keys), *items])

    def _inputs(self, number: int) -> tuple[str, ...]:
        texts = tuple(text for i in self.plan.inputs_of(number) if (text := self.texts[i]) is not None)
        if len(texts) < len(self.plan.inputs_of(number)):
            raise KeyError(f"call {number} reads a text that is not written yet")
        return texts
