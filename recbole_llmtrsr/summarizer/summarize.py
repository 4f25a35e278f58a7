"""Preference summaries of all histories: plan the distinct calls, then run them in waves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm  # type: ignore[import-untyped]

from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.settings import SummarySettings
from recbole_llmtrsr.summarizer.hierarchical import plan_hierarchical
from recbole_llmtrsr.summarizer.plan import KINDS, Kind, Plan
from recbole_llmtrsr.summarizer.recurrent import plan_recurrent
from recbole_llmtrsr.summarizer.writer import SummaryWriter

PARADIGMS: dict[str, Callable[[Mapping[int, Sequence[str]], int, int | None], Plan]] = {
    "hierarchical": plan_hierarchical,
    "recurrent": plan_recurrent,
}

JOBS_PER_CALL = 256  # enough for a writer to sort and batch, few enough for the progress bar to move


@dataclass(frozen=True)
class SummaryResult:
    """Summaries and what they cost.

    Attributes:
        summaries: history id -> preference summary, one line; '' for a history without items.
        calls: jobs that the histories would need if they shared nothing.
        distinct: jobs that were run, by kind.
        seconds: wall time.
        report: the writer's own counts.
    """

    summaries: Mapping[int, str]
    calls: int
    distinct: Mapping[Kind, int]
    seconds: float
    report: Mapping[str, int]


def summarize(
    histories: Mapping[int, Sequence[str]],
    item_text: ItemText,
    writer: SummaryWriter,
    settings: SummarySettings,
    show_progress: bool = False,
) -> SummaryResult:
    """Write the preference summary of every history.

    Nothing but a history's own items enters its summary: calls name the items of its blocks and each other, no target
    is among the arguments, and shared calls are equal in all that they read.

    Args:
        histories: history id -> item tokens, oldest first, up to the target and without it.
        item_text: texts of the items.
        writer: who writes.
        settings: paradigm and blocks; with ``summary: none`` every summary is '' and nothing is called.
        show_progress: draw a progress bar over the calls.
    """
    start = time.perf_counter()
    if settings.summary == "none":
        return SummaryResult(dict.fromkeys(histories, ""), 0, dict.fromkeys(KINDS, 0), 0.0, {})
    plan = PARADIGMS[settings.summary](histories, settings.block_size, settings.max_blocks)
    texts = _run(plan, item_text, writer, show_progress)
    summaries = {history: "" if call is None else texts[call] for history, call in plan.results.items()}
    seconds = time.perf_counter() - start
    return SummaryResult(summaries, plan.requested, plan.distinct(), seconds, writer.report())


def _run(plan: Plan, item_text: ItemText, writer: SummaryWriter, show_progress: bool) -> list[str]:
    """The text of every call of the plan, by number."""
    texts = [""] * len(plan.calls)
    with tqdm(total=len(texts), desc="Summaries", unit="call", disable=not show_progress) as bar:
        for kind, wave in plan.waves():
            for start in range(0, len(wave), JOBS_PER_CALL):
                numbers = wave[start : start + JOBS_PER_CALL]
                for number, text in zip(numbers, _write(kind, numbers, plan, texts, item_text, writer), strict=True):
                    texts[number] = text
                bar.update(len(numbers))
    return texts


def _write(
    kind: Kind, numbers: list[int], plan: Plan, texts: list[str], item_text: ItemText, writer: SummaryWriter
) -> list[str]:
    calls = [plan.calls[number] for number in numbers]
    inputs = [[texts[i] for i in call.inputs] for call in calls]
    if kind == "merge":
        return writer.merge(inputs)
    blocks = [[item_text[token] for token in call.items] for call in calls]
    if kind == "block":
        return writer.write(blocks)
    return writer.update([previous for (previous,) in inputs], blocks)
