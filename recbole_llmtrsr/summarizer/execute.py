"""Execution of a plan, wave by wave: the store answers the calls that it holds, the writer all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import islice
from logging import getLogger
from typing import Literal

from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.runtime.screen import Bar
from recbole_llmtrsr.summarizer.calls import Calls
from recbole_llmtrsr.summarizer.jobs import Job, Kind
from recbole_llmtrsr.summarizer.lost_texts import Counts, check_losses, tell_losses
from recbole_llmtrsr.summarizer.quality import ALWAYS_REPLACED, faults_of
from recbole_llmtrsr.summarizer.store.store import Record, SummaryStore
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

ENOUGH = 32  # texts before losses are first checked
LOOKUPS = 4096  # calls per lookup in the store
JOBS = 256  # claimed together by a process: enough to sort and batch, few enough to share a wave with others
WAIT_SECONDS = 0.05  # between checks of what another process is writing
PATIENCE_SECONDS = 60.0  # of waiting for another process before a warning

Source = Literal["stored", "written", "replaced"]
Answers = Mapping[bytes, GeneratedText | GenerationFailure]  # by the keys of their calls
# The text that a call gets, and the key under which the store has it: None where it is a replacement.
Used = tuple[str, bytes | None]


class Executor:
    """Runs a plan, so that every call gets its text.

    Args:
        calls: of the plan.
        writer: answers the calls that the store does not hold.
        store: holds answers unchanged; several processes may share it.
        faulty: policy for faulty answers: ``keep``, ``retry`` or ``fallback``.
        make_fallback: makes the writer of replacements if one is needed.
        jobs: calls claimed together.
        unanswered: key -> reason, of calls that got no answer earlier in this run; they are not repeated, so that one
            run has one set of texts.
        is_judged: refuse a writer if more than half of its texts are replaced, and name remedies for lesser losses.
        dry: write nothing, and only list the calls that the store lacks.
        show_progress: draw a progress bar over the calls.

    Attributes:
        counts: outcomes of the calls.
        unanswered: those passed in, and the calls that got no answer now.
        needed: in a dry run, (number, attempt) of the calls that the store does not hold.
    """

    def __init__(
        self,
        calls: Calls,
        writer: SummaryWriter,
        store: SummaryStore,
        *,
        faulty: str,
        make_fallback: Callable[[], SummaryWriter],
        jobs: int = JOBS,
        unanswered: Mapping[bytes, str] | None = None,
        is_judged: bool = False,
        dry: bool = False,
        show_progress: bool = False,
    ) -> None:
        self.counts = Counts()
        self.needed: list[tuple[int, int]] = []
        self.unanswered = dict(unanswered or {})
        self._calls, self._writer, self._store = calls, writer, store
        self._faulty, self._make_fallback, self._jobs, self._dry = faulty, make_fallback, jobs, dry
        self._is_judged = is_judged
        # More than a server's PATIENCE, whose error names the cause of missing answers.
        self._window = min(jobs // 2 + 1, LOOKUPS)
        self._fallback: SummaryWriter | None = None
        self._writer_id = cache(lambda *which: store.writer_id(writer.name, writer.settings(*which)))
        self._written: set[bytes] = set()  # keys
        self._bar = Bar(total=len(calls.plan), desc="Summaries", unit="call", disable=not show_progress)
        self._start = time.perf_counter()

    def run(self) -> None:
        """Run all waves in growing windows, so that a failing writer is refused early.

        Raises:
            UserError: more than half of the texts are replaced, if ``is_judged``.
        """
        with self._bar:
            for kind, wave in self._calls.plan.waves():
                settled: dict[bytes, Used | None] = {}  # of this wave; None where a dry run has no text
                numbers = iter(wave.tolist())
                while window := list(islice(numbers, self._window)):
                    self._run_window(kind, window, settled)
                    self._window = min(4 * self._window, LOOKUPS)
                    if self._is_judged and self.counts.different >= ENOUGH:
                        check_losses(self._writer.name, self.counts)
        if self._is_judged:
            check_losses(self._writer.name, self.counts)
        if not self._dry:
            tell_losses(self.counts, self._is_judged)

    def source(self, number: int) -> Source:
        """Whether a call's text was found in the store, written now or replaced."""
        key = self._calls.used_keys[number]
        return "replaced" if key is None else "written" if key in self._written else "stored"

    def faults(self, number: int, answer: GeneratedText) -> tuple[str, ...]:
        """Faults of a writer's answer to a call."""
        wording = self._writer.wording(self._calls.plan.kind(number))
        return faults_of(self._calls.job(number), answer, wording) if wording else ()

    def _run_window(self, kind: Kind, window: list[int], settled: dict[bytes, Used | None]) -> None:
        keys: dict[int, bytes] = {}
        jobs: dict[bytes, int] = {}  # different calls that read the same are one
        for number in window:
            if self._dry and not self._calls.ready(number):
                self.needed.append((number, 0))
                continue
            keys[number] = key = self._calls.key(number)
            if key not in settled and key not in jobs:
                jobs[key] = number
        self.counts.equal += len(keys) - len(jobs)
        self._bar.update(len(window) - len(jobs))
        settled.update(self._settle(kind, jobs, self._answers(kind, jobs, 0)))
        for number, key in keys.items():
            if used := settled[key]:
                self._calls.texts[number], self._calls.used_keys[number] = used

    def _answers(self, kind: Kind, jobs: Mapping[bytes, int], attempt: int) -> Answers:
        """Collect answers to calls of one kind, given as key -> number, by key.

        They come from the store, this process's writer and other processes; in a dry run from the store only.
        """
        answers: dict[bytes, GeneratedText | GenerationFailure] = {}

        def enter(new: Answers) -> int:
            answers.update(new)
            report = self._writer.report()
            if tokens := report.get("prompt_tokens", 0) + report.get("new_tokens", 0):
                speed = tokens / (time.perf_counter() - self._start)
                self._bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
            self._bar.update(len(new) if attempt == 0 else 0)
            return len(new)

        enter({key: GenerationFailure(self.unanswered[key]) for key in jobs if key in self.unanswered})
        self.counts.found += enter(self._store.find([key for key in jobs if key not in answers]))
        pending = [] if self._dry else [key for key in jobs if key not in answers]
        busy: set[bytes] = set()  # since the last progress
        waiting = 0.0
        while pending:
            claims = self._store.claim(pending[: self._jobs])
            self.counts.found += enter(claims.found)
            if claims.mine:
                for some in self._write(kind, {key: jobs[key] for key in claims.mine}, attempt):
                    enter(some)
            pending = pending[self._jobs :] + claims.busy
            busy = set() if claims.found or claims.mine else busy.union(claims.busy)
            waiting = waiting if busy else 0.0
            if pending and busy.issuperset(pending):
                time.sleep(WAIT_SECONDS)
                before, waiting = waiting, waiting + WAIT_SECONDS
                if before < PATIENCE_SECONDS <= waiting:
                    getLogger(__name__).warning(
                        f"{len(pending)} calls have been another process's for {waiting:.0f} s: still waiting; if it"
                        " hangs, end it, and this one takes them over"
                    )
        return answers

    def _write(self, kind: Kind, claimed: Mapping[bytes, int], attempt: int) -> Iterator[Answers]:
        """Run claimed calls; each answer is stored before the next is awaited."""
        keys = list(claimed)
        jobs = [replace(self._calls.job(number), attempt=attempt) for number in claimed.values()]
        claims, answering = set(keys), self._writer.run(jobs)
        try:
            for some in answering:
                answers = {keys[position]: answer for position, answer in some}
                records = [
                    Record(key, kind, answer, self._calls.provenance(claimed[key]), attempt)
                    for key, answer in answers.items()
                    if isinstance(answer, GeneratedText)
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

    def _settle(self, kind: Kind, jobs: Mapping[bytes, int], answers: Answers) -> dict[bytes, Used | None]:
        """Repeat or replace missing and faulty answers; an empty answer to a call with content is always replaced."""
        used: dict[bytes, Used | None] = {}
        faulty: dict[bytes, tuple[str, ...]] = {}  # faults of the texts that are used
        missing: list[bytes] = []
        for key, number in jobs.items():
            answer = answers.get(key)
            if answer is None:
                self.needed.append((number, 0))
                used[key] = None
            elif isinstance(answer, GenerationFailure):
                self._failed(key, answer)
                missing.append(key)
            else:
                used[key] = answer.text, key
                if faults := self.faults(number, answer):
                    self.counts.faults.update(faults)
                    faulty[key] = faults
        if faulty and self._faulty == "retry":
            self._ask_again(kind, {key: jobs[key] for key in faulty}, used, faulty)
        for key, faults in faulty.items():
            if used[key] is None:
                continue
            if self._faulty == "fallback" or not ALWAYS_REPLACED.isdisjoint(faults):
                missing.append(key)
            else:
                self.counts.remaining_faults.update(faults)
        if missing:
            used.update(self._replacements({key: jobs[key] for key in missing}))
        self.counts.different += len(used)
        return used

    def _failed(self, key: bytes, failure: GenerationFailure) -> None:
        self.counts.failures[failure.reason] += 1
        self.unanswered[key] = failure.reason

    def _ask_again(
        self,
        kind: Kind,
        jobs: Mapping[bytes, int],
        used: dict[bytes, Used | None],
        faulty: dict[bytes, tuple[str, ...]],
    ) -> None:
        """Run a second attempt; it counts if it has no fault, or if the first would be replaced anyway."""
        again = {self._calls.key(number, attempt=1): (key, number) for key, number in jobs.items()}
        answers = self._answers(kind, {second: number for second, (_, number) in again.items()}, 1)
        for second, (key, number) in again.items():
            answer = answers.get(second)
            self.counts.repeated += 1
            if answer is None:
                self.needed.append((number, 1))
                used[key] = None
            elif isinstance(answer, GenerationFailure):
                self._failed(second, answer)
            else:
                faults = self.faults(number, answer)
                if not faults or not ALWAYS_REPLACED.isdisjoint(faulty[key]):
                    used[key], faulty[key] = (answer.text, second), faults

    def _replacements(self, missing: Mapping[bytes, int]) -> dict[bytes, Used]:
        """Extract all items behind each call; replacements are not stored, so that a later run repeats the call."""
        if self._fallback is None:
            self._fallback = self._make_fallback()
        self.counts.replaced += len(missing)
        keys, used = list(missing), dict[bytes, Used]()
        for some in self._fallback.run([Job("block", self._calls.items_behind(n)) for n in missing.values()]):
            for position, answer in some:
                assert isinstance(answer, GeneratedText)
                used[keys[position]] = answer.text, None
        return used
