"""Histories by name: what a test writes as a mapping of letters becomes slices of one array of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.histories import Histories
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.summarizer.cost import estimate
from recbole_llmtrsr.summarizer.jobs import Job, Kind
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.summarize import SummaryResult, plan_calls, summarize
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter


class EchoWriter:
    """Writes down what it reads: [AB] is a block, (x|CD) an update of x, {x,y} a merge."""

    name = "echo"

    def __init__(self, style: str = "") -> None:
        self.jobs: list[str] = []
        self.style = style
        self.checked = False
        self.answers: dict[str, GeneratedText | GenerationFailure] = {}  # instead of the echo

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, Any]:
        return {"writer": "echo", "style": self.style, "kind": kind, "attempt": attempt}

    def wording(self, kind: Kind) -> Sequence[str]:
        return ["Summarize this history."] if self.checked and kind == "block" else []

    def run(self, jobs: Sequence[Job]) -> Iterator[list[tuple[int, GeneratedText | GenerationFailure]]]:
        # From the last to the first, in pairs: an executor must not rely on the order.
        numbered = [(position, self._answer(job)) for position, job in enumerate(jobs)][::-1]
        for start in range(0, len(numbered), 2):
            yield numbered[start : start + 2]

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def report(self) -> dict[str, int]:
        return {"jobs": len(self.jobs)}

    def _answer(self, job: Job) -> GeneratedText | GenerationFailure:
        items = "".join(item.line for item in job.items)
        if job.kind == "block":
            text = f"[{items}]"
        elif job.kind == "update":
            text = f"({job.inputs[0]}|{items})"
        else:
            text = "{" + ",".join(job.inputs) + "}"
        text += "'" * job.attempt
        self.jobs.append(text)
        return self.answers.get(text, GeneratedText(text, 10, 5, 0.5))


class Summarize:
    """Runs the whole engine on histories given as item tokens."""

    @staticmethod
    def histories(sequences: Mapping[int, Sequence[str]], catalogue: ItemText) -> Histories:
        """Each sequence on its own."""
        numbers = {token: number for number, token in enumerate(catalogue.items, start=1)}
        # What has no text gets a number of its own behind the catalogue.
        for sequence in sequences.values():
            for token in sequence:
                numbers.setdefault(token, len(numbers) + 1)
        events = [numbers[token] for sequence in sequences.values() for token in sequence]
        end = np.cumsum([len(sequence) for sequence in sequences.values()], dtype=np.int64)
        begin = end - np.array([len(sequence) for sequence in sequences.values()], dtype=np.int64)
        array = np.array(events, dtype=np.int64)
        return Histories(array, begin, end, array)

    @staticmethod
    def prefixes(sequence: Sequence[str], catalogue: ItemText) -> Histories:
        """All prefixes of one sequence, the empty one and the whole one included."""
        whole = Summarize.histories({0: sequence}, catalogue)
        n = len(sequence)
        return Histories(whole.items, np.zeros(n + 1, np.int64), np.arange(n + 1), whole.items)

    def __call__(
        self,
        histories: Histories | Mapping[int, Sequence[str]],
        catalogue: ItemText,
        writer: SummaryWriter,
        settings: SummarySettings,
        store: SummaryStore | None = None,
        show_progress: bool = False,
        dry: bool = False,
    ) -> Any:
        """Summaries by history id; those of a mapping have its keys. A dry run gives the cost."""
        names = list(range(len(histories)))
        if not isinstance(histories, Histories):
            names = list(histories)
            histories = self.histories(histories, catalogue)
        tokens = ["[PAD]", *catalogue.items]
        tokens += [f"unknown{n}" for n in range(len(tokens), int(histories.items.max(initial=0)) + 1)]
        items = [catalogue[token] for token in tokens]
        ids = list(range(len(histories)))
        calls = plan_calls(histories, ids, items, tokens, writer, settings)
        if dry:
            assert store is not None
            return estimate(calls, writer, store, settings, lambda: ExtractiveWriter(catalogue))
        with SummaryStore(None) as own:
            result = summarize(
                ids,
                calls,
                writer,
                store or own,
                settings,
                lambda: ExtractiveWriter(catalogue),
                traced=ids,
                show_progress=show_progress,
            )
        return SummaryResult(
            {names[i]: text for i, text in result.summaries.items()},
            result.report,
            {names[i]: calls for i, calls in result.traces.items()},
        )


@pytest.fixture
def summarize_histories() -> Summarize:
    return Summarize()


@pytest.fixture
def make_echo() -> type[EchoWriter]:
    return EchoWriter
