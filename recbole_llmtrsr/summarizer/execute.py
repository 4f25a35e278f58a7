"""Running a plan: what the store has is read, what nobody has is written, wave by wave."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tqdm import tqdm  # type: ignore[import-untyped]

from recbole_llmtrsr.summarizer.calls import Calls
from recbole_llmtrsr.summarizer.jobs import Answer, Failure, Kind
from recbole_llmtrsr.summarizer.quality import faults_of
from recbole_llmtrsr.summarizer.store.store import Record, SummaryStore
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

LOOKUPS = 4096  # calls that are asked for in the store together
JOBS = 256  # that one process claims together: enough to sort and batch, few enough to share a wave with others
WAIT_SECONDS = 0.05  # between looks at what another process is writing

Source = Literal["stored", "written", "replaced"]


@dataclass
class Counts:
    """What happened to the calls of a plan.

    Attributes:
        found: answers that were in the store, or that another process wrote meanwhile.
        made: answers that this process's writer gave.
        repeated: second attempts at a faulty answer, found or made.
        replaced: texts of the extractive writer in place of a missing or faulty answer.
        failures: calls without an answer, by reason.
        faults: first answers by fault; one answer can have several.
    """

    found: int = 0
    made: int = 0
    repeated: int = 0
    replaced: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Text:
    text: str
    key: bytes | None  # of the answer in the store; None where the text is a replacement
    source: Source
    faults: tuple[str, ...] = ()


class Executor:
    """Gives every call of a plan its text.

    Args:
        calls: the plan, filled.
        writer: who writes what the store does not have.
        store: keeps answers as they were given; several processes may share it.
        faulty: what is done about faulty answers: ``keep``, ``retry`` or ``fallback``.
        make_fallback: makes the writer of replacements, when one is needed.
        show_progress: draw a progress bar over the calls.

    Attributes:
        counts: what happened.
    """

    def __init__(
        self,
        calls: Calls,
        writer: SummaryWriter,
        store: SummaryStore,
        *,
        faulty: str,
        make_fallback: Callable[[], SummaryWriter],
        show_progress: bool = False,
    ) -> None:
        self.counts = Counts()
        self._calls, self._writer, self._store = calls, writer, store
        self._faulty, self._make_fallback = faulty, make_fallback
        self._fallback: SummaryWriter | None = None
        self._writer_ids: dict[tuple[Kind, int], int] = {}
        self._bar = tqdm(total=len(calls.plan), desc="Summaries", unit="call", disable=not show_progress)
        self._written: set[bytes] = set()  # keys
        self._sources: dict[int, Source] = {}  # of the calls whose text was not found in the store

    def run(self) -> None:
        """Run all waves."""
        start = time.perf_counter()
        with self._bar:
            for kind, wave in self._calls.plan.waves():
                for window in _windows(wave.tolist(), LOOKUPS):
                    self._run_window(kind, window)
                    report = self._writer.report()
                    if tokens := report.get("prompt_tokens", 0) + report.get("new_tokens", 0):
                        self._bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):,.0f} tokens/s")

    def source(self, number: int) -> Source:
        """Where a call's text comes from."""
        return self._sources.get(number, "stored")

    def faults(self, number: int, answer: Answer) -> tuple[str, ...]:
        """What is wrong with a writer's answer to a call."""
        wording = self._writer.wording(self._calls.plan.kind(number))
        return faults_of(self._calls.job(number), answer, wording) if wording else ()

    def _run_window(self, kind: Kind, window: Sequence[int]) -> None:
        equal: dict[bytes, list[int]] = {}  # different calls that read the same are one
        for number in window:
            equal.setdefault(self._calls.key(number), []).append(number)
        jobs = {key: numbers[0] for key, numbers in equal.items()}
        answers = self._answers(kind, jobs, 0, lambda key: len(equal[key]))
        for key, settled in self._settle(kind, jobs, answers).items():
            for number in equal[key]:
                self._calls.done(number, settled.text, settled.key)
            if settled.source != "stored":
                self._sources.update(dict.fromkeys(equal[key], settled.source))

    def _answers(
        self, kind: Kind, jobs: Mapping[bytes, int], attempt: int, weight: Callable[[bytes], int]
    ) -> dict[bytes, Answer | Failure]:
        """An answer to every call, from the store, from this process's writer or from another process.

        Args:
            kind: of all calls.
            jobs: key -> number of the call.
            attempt: 0, or 1 for the second.
            weight: by how much a key moves the progress bar.
        """
        answers: dict[bytes, Answer | Failure] = {}

        def enter(new: Mapping[bytes, Answer | Failure]) -> int:
            answers.update(new)
            self._bar.update(sum(weight(key) for key in new))
            return len(new)

        self.counts.found += enter(self._store.find(list(jobs)))
        pending = [key for key in jobs if key not in answers]
        busy: set[bytes] = set()  # since the last progress
        while pending:
            claims = self._store.claim(pending[:JOBS])
            self.counts.found += enter(claims.found)
            if claims.mine:
                for some in self._write(kind, {key: jobs[key] for key in claims.mine}, attempt):
                    enter(some)
            pending = pending[JOBS:] + claims.busy
            busy = set() if claims.found or claims.mine else busy.union(claims.busy)
            if pending and busy.issuperset(pending):
                time.sleep(WAIT_SECONDS)
        return answers

    def _write(
        self, kind: Kind, claimed: Mapping[bytes, int], attempt: int
    ) -> Iterator[Mapping[bytes, Answer | Failure]]:
        """Let the writer answer claimed calls; every answer is in the store before the next one is waited for."""
        keys = list(claimed)
        jobs = [replace(self._calls.job(number), attempt=attempt) for number in claimed.values()]
        claims, answering = set(keys), self._writer.run(jobs)
        try:
            for some in answering:
                answers = {keys[position]: answer for position, answer in some}
                records = [
                    Record(key, kind, answer, self._calls.provenance(claimed[key]), attempt)
                    for key, answer in answers.items()
                    if isinstance(answer, Answer)
                ]
                if records:
                    answers.update(self._store.put(self._writer_id(kind, attempt), records))
                    self.counts.made += len(records)
                    self._written.update(record.key for record in records)
                    claims.difference_update(record.key for record in records)
                yield answers
        finally:
            answering.close()
            if claims:
                self._store.release(list(claims))

    def _settle(
        self, kind: Kind, jobs: Mapping[bytes, int], answers: Mapping[bytes, Answer | Failure]
    ) -> dict[bytes, _Text]:
        """Decide on missing and faulty answers; an empty one never stands where there was something to say."""
        texts: dict[bytes, _Text] = {}
        faulty: dict[bytes, int] = {}
        for key, number in jobs.items():
            answer = answers[key]
            if isinstance(answer, Failure):
                self.counts.failures[answer.reason] += 1
                continue
            texts[key] = self._text(key, answer, self.faults(number, answer))
            if texts[key].faults:
                self.counts.faults.update(texts[key].faults)
                faulty[key] = number
        if faulty and self._faulty == "retry":
            texts.update(self._second_texts(kind, faulty, texts))
        for key in faulty:
            if self._faulty == "fallback" or "empty" in texts[key].faults:
                del texts[key]
        missing = {key: number for key, number in jobs.items() if key not in texts}
        if missing:
            texts.update(self._replacements(missing))
        return texts

    def _second_texts(
        self, kind: Kind, faulty: Mapping[bytes, int], first: Mapping[bytes, _Text]
    ) -> dict[bytes, _Text]:
        """Ask once more; a second answer counts if it is without fault, or if the first one is empty."""
        again = {self._calls.key(number, attempt=1): key for key, number in faulty.items()}
        numbers = {second: faulty[key] for second, key in again.items()}
        texts = {}
        for second, answer in self._answers(kind, numbers, 1, lambda key: 0).items():
            self.counts.repeated += 1
            if isinstance(answer, Failure):
                self.counts.failures[answer.reason] += 1
                continue
            faults = self.faults(numbers[second], answer)
            if not faults or "empty" in first[again[second]].faults:
                texts[again[second]] = self._text(second, answer, faults)
        return texts

    def _replacements(self, missing: Mapping[bytes, int]) -> dict[bytes, _Text]:
        """The extractive writer's texts; they stay out of the store, so that a later run asks again."""
        if self._fallback is None:
            self._fallback = self._make_fallback()
        self.counts.replaced += len(missing)
        keys, texts = list(missing), {}
        for some in self._fallback.run([self._calls.job(number) for number in missing.values()]):
            for position, answer in some:
                assert isinstance(answer, Answer)
                texts[keys[position]] = _Text(answer.text, None, "replaced")
        return texts

    def _writer_id(self, kind: Kind, attempt: int) -> int:
        if (kind, attempt) not in self._writer_ids:
            settings = self._writer.settings(kind, attempt)
            self._writer_ids[kind, attempt] = self._store.writer_id(self._writer.name, settings)
        return self._writer_ids[kind, attempt]

    def _text(self, key: bytes, answer: Answer, faults: tuple[str, ...]) -> _Text:
        return _Text(answer.text, key, "written" if key in self._written else "stored", faults)


def _windows(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
