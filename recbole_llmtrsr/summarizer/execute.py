"""Execution of a plan, wave by wave: the store answers the calls that it holds, and the writer answers the others."""

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

ENOUGH = 32  # number of texts before the first check of losses
LOOKUPS = 4096  # calls per lookup in the store
JOBS = 256  # calls that a process claims together: enough to sort and batch, few enough to share a wave with others
WAIT_SECONDS = 0.05  # between checks for answers of another process
PATIENCE_SECONDS = 60.0  # waiting time for another process before a warning

Source = Literal["stored", "written", "replaced"]
Answers = Mapping[bytes, GeneratedText | GenerationFailure]  # by the keys of their calls
# The text of a call and its key in the store; the key is None if the text is a replacement.
Used = tuple[str, bytes | None]


class Executor:
    """Runs a plan until every call has a text.

    Args:
        calls: the calls of the plan.
        writer: answers the calls that the store does not hold.
        store: stores the answers unchanged; several processes can share it.
        faulty: policy for faulty answers: ``keep``, ``retry`` or ``fallback``.
        make_fallback: creates the writer of replacements when the first one is needed.
        jobs: number of calls to claim together.
        unanswered: key -> reason for each call that got no answer earlier in this run. The executor does not repeat
            them, so that one run uses one set of texts.
        is_judged: whether to refuse a writer if more than half of its texts are replaced, and to name remedies if
            fewer are.
        dry: whether to write nothing and only list the calls that the store lacks.
        show_progress: whether to show a progress bar.

    Attributes:
        counts: outcomes of the calls.
        unanswered: the calls passed in as unanswered, and those that got no answer in this execution.
        needed: (number, attempt) of each call that the store does not hold, listed by a dry run.
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
        # Larger than a server's PATIENCE, so that its error, which names the cause of missing answers, comes first.
        self._window = min(jobs // 2 + 1, LOOKUPS)
        self._fallback: SummaryWriter | None = None
        self._writer_id = cache(lambda *which: store.writer_id(writer.name, writer.settings(*which)))
        self._written: set[bytes] = set()  # keys
        self._bar = Bar(total=len(calls.plan), desc="Summaries", unit="call", disable=not show_progress)
        self._start = time.perf_counter()

    def run(self) -> None:
        """Run all waves in growing windows, which reveal a failing writer early.

        Raises:
            UserError: if ``is_judged`` and more than half of the texts are replaced.
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
        """Return where a call's text comes from: the store, the writer in this run, or a replacement."""
        key = self._calls.used_keys[number]
        return "replaced" if key is None else "written" if key in self._written else "stored"

    def faults(self, number: int, answer: GeneratedText) -> tuple[str, ...]:
        """Return the faults of a writer's answer to a call."""
        wording = self._writer.wording(self._calls.plan.kind(number))
        return faults_of(self._calls.job(number), answer, wording) if wording else ()

    def _run_window(self, kind: Kind, window: list[int], settled: dict[bytes, Used | None]) -> None:
        keys: dict[int, bytes] = {}
        jobs: dict[bytes, int] = {}  # calls with equal inputs share one key
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
        """Collect the answers to calls of one kind, given as key -> number.

        The answers come from the store, this process's writer and other processes; a dry run reads only the store.
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
                        f"another process has held {len(pending)} summary calls for {waiting:.0f} s; this process is"
                        " still waiting. If the other process hangs, end it, and this one takes over its calls"
                    )
        return answers

    def _write(self, kind: Kind, claimed: Mapping[bytes, int], attempt: int) -> Iterator[Answers]:
        """Run claimed calls, and store each answer before waiting for the next."""
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
        """Repeat or replace missing and faulty answers; always replace an empty answer to a call with content."""
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
        """Run second attempts; use one if it has no fault, or if the first answer would be replaced anyway."""
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
        """Write extracts of all items behind each call, without storing them, so that a later run repeats the call."""
        if self._fallback is None:
            self._fallback = self._make_fallback()
        self.counts.replaced += len(missing)
        keys, used = list(missing), dict[bytes, Used]()
        for some in self._fallback.run([Job("block", self._calls.items_behind(n)) for n in missing.values()]):
            for position, answer in some:
                assert isinstance(answer, GeneratedText)
                used[keys[position]] = answer.text, None
        return used
