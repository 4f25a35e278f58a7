"""Preference summaries of all histories: plan the distinct calls, run those that the store lacks, report counts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.summarizer.calls import Calls
from recbole_llmtrsr.summarizer.execute import JOBS, Executor
from recbole_llmtrsr.summarizer.planning.make_plan import make_plan
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.trace import TracedCall, trace
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

if TYPE_CHECKING:
    from recbole_llmtrsr.data.histories import Histories


@dataclass(frozen=True)
class SummaryResult:
    """Summaries, with counts and traces of the calls behind them.

    Attributes:
        summaries: history id -> preference summary, one line; '' for a history without a block.
        report: counts for ``result.json``: calls and their outcomes, tokens, faults and cuts.
        traces: history id -> calls behind its summary, for the traced histories.
        unanswered: key -> reason, of the calls that got no answer.
    """

    summaries: Mapping[int, str]
    report: Mapping[str, Any]
    traces: Mapping[int, tuple[TracedCall, ...]] = field(default_factory=dict)
    unanswered: Mapping[bytes, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 digest of all summaries, equal for runs that read the same summaries."""
        digest = hashlib.sha256()
        for history_id, text in sorted(self.summaries.items()):
            digest.update(f"{history_id} {text}\n".encode())
        return digest.hexdigest()

    def calls_of(self, history_id: int) -> tuple[TracedCall, ...]:
        """Return the calls behind a traced history's summary, in execution order, with the result last."""
        return self.traces.get(history_id, ())


def plan_calls(
    histories: Histories,
    ids: Sequence[int],
    items: Sequence[Item],
    tokens: Sequence[str],
    writer: SummaryWriter,
    settings: SummarySettings,
) -> Calls:
    """Plan the writer calls of the histories.

    A summary reads only the items of its history, never the target: each call reads blocks of the history and earlier
    texts. Histories share calls that have the same inputs.

    Args:
        histories: all histories.
        ids: ids of the histories that need a summary.
        items, tokens, writer: see ``Calls``.
        settings: settings of the summaries.
    """
    chosen = np.asarray(ids, dtype=np.int64)
    plan = make_plan(histories.items, histories.begin[chosen], histories.end[chosen], settings)
    return Calls(plan, items, tokens, writer)


def summarize(
    ids: Sequence[int],
    calls: Calls,
    writer: SummaryWriter,
    store: SummaryStore,
    settings: SummarySettings,
    make_fallback: Callable[[], SummaryWriter],
    *,
    traced: Sequence[int] = (),
    unanswered: Mapping[bytes, str] | None = None,
    is_judged: bool = False,
    show_progress: bool = False,
) -> SummaryResult:
    """Execute the plan and return a summary for every history.

    Args:
        ids: ids of the histories, as passed to ``plan_calls``.
        calls: the planned calls, from ``plan_calls``.
        settings: settings of the summaries.
        traced: ids of the histories whose calls the result lists.
        writer, store, make_fallback, unanswered, is_judged, show_progress: see ``Executor``.

    Raises:
        UserError: see ``Executor.run``; also for faults of the writer or the store.
    """
    start = time.perf_counter()
    executor = Executor(
        calls,
        writer,
        store,
        faulty=settings.faulty_summaries,
        make_fallback=make_fallback,
        jobs=max(JOBS, 4 * settings.summarizer_concurrency),  # enough jobs to keep a server busy
        unanswered=unanswered,
        is_judged=is_judged,
        show_progress=show_progress,
    )
    executor.run()
    numbers = dict(zip(ids, calls.plan.results.tolist(), strict=True))
    counts = executor.counts
    report = {
        "histories": len(ids),
        "histories_without_block": sum(number < 0 for number in numbers.values()),
        "calls_unshared": calls.plan.requested,
        "calls": len(calls.plan),
        "calls_by_kind": calls.plan.distinct(),
        "equal": counts.equal,
        "found": counts.found,
        "made": counts.made,
        "repeated": counts.repeated,
        "replaced": counts.replaced,
        "failures": dict(counts.failures),
        "faults": dict(counts.faults),
        "remaining_faults": dict(counts.remaining_faults),
        "damaged": store.damaged,
        "seconds": round(time.perf_counter() - start, 3),
        **writer.report(),
    }
    texts = {history: "" if number < 0 else str(calls.texts[number]) for history, number in numbers.items()}
    traces = {history: trace(numbers[history], calls, executor, store) for history in traced}
    return SummaryResult(texts, report, traces, executor.unanswered)
