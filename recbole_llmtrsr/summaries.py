"""The summarization stage of a run: which histories, which writer, which store, and what is left behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llmtrsr import processes
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.make_backbone import weights_dtype
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.summarizer.cost import estimate
from recbole_llmtrsr.summarizer.from_file import read_summaries, resolve, write_summaries
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.summarize import SummaryResult, plan_calls, summarize
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter
from recbole_llmtrsr.summarizer.writers.llm_writer import LLMWriter
from recbole_llmtrsr.summarizer.writers.make_writer import FILE, VLLM, make_writer
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter


@dataclass(frozen=True)
class _Wanted:
    """Histories that need a summary.

    Attributes:
        ids: their ids, ascending. [n_histories]
        users: user tokens. [n_histories]
        n_events: events before the target. [n_histories]
    """

    ids: list[int]
    users: list[str]
    n_events: list[int]

    def rows(self) -> Iterable[tuple[int, str, int]]:
        return zip(self.ids, self.users, self.n_events, strict=True)


def make_summaries(
    config: Any, dataset: LLMTRSRDataset, loaders: Sequence[Any], traced: Sequence[int] = ()
) -> SummaryResult:
    """Give every history that a loader will ask for its preference summary, and hand them to the data set.

    Args:
        config: our Config.
        dataset: whose histories are summarized.
        loaders: of all splits.
        traced: ids of histories whose calls are to be told.

    Raises:
        UserError: a fault of the summarizer, the store or the file of summaries.
    """
    settings = config.settings.summary
    if settings.summary == "none":
        return SummaryResult({}, {})
    wanted = _wanted(dataset, loaders)
    if settings.summarizer.startswith(FILE):
        texts, counts = _from_file(config, wanted)
        result = SummaryResult(texts, {"histories": len(wanted.ids), "from_file": counts})
    else:
        writer = run_writer(config, dataset.item_text)
        calls = plan_calls(dataset.histories, wanted.ids, dataset.items, dataset.item_tokens, writer, settings)

        def summarized() -> SummaryResult:
            with SummaryStore(store_path(settings.summary_store)) as store:
                return summarize(
                    wanted.ids,
                    calls,
                    writer,
                    store,
                    settings,
                    lambda: ExtractiveWriter(dataset.item_text),
                    traced=traced,
                    show_progress=bool(config["show_progress"]),
                )

        if settings.summary_store is None or settings.summarizer.startswith(VLLM):
            result = processes.by_main(summarized)  # there is nothing to share, or one engine for all GPUs
        else:
            result = _of_all_processes(summarized(), writer)
    dataset.set_summaries(result.summaries)
    return result


def summary_cost(config: Any, dataset: LLMTRSRDataset, loaders: Sequence[Any]) -> str:
    """What the summaries would take, in words; nothing is written.

    Raises:
        UserError: a fault of the summarizer, the store or the file of summaries.
    """
    settings = config.settings.summary
    if settings.summary == "none":
        return "summary: none makes no calls"
    wanted = _wanted(dataset, loaders)
    if settings.summarizer.startswith(FILE):
        _, counts = _from_file(config, wanted)
        return "\n".join(f"{name:<16} {count:,}" for name, count in counts.items())
    writer = run_writer(config, dataset.item_text)
    calls = plan_calls(dataset.histories, wanted.ids, dataset.items, dataset.item_tokens, writer, settings)
    path = store_path(settings.summary_store)
    with SummaryStore(path if path is not None and path.exists() else None) as store:
        limit = writer.prompts.budget if isinstance(writer, LLMWriter) else None
        return estimate(calls, writer, store, settings, lambda: ExtractiveWriter(dataset.item_text), limit).text()


def save_summaries(path: Path, dataset: LLMTRSRDataset, loaders: Sequence[Any], result: SummaryResult) -> None:
    """Write all summaries in the form that ``summarizer: file:<path>`` reads, but for histories without events."""
    if dataset.config["benchmark_filename"] is not None:
        dataset.logger.warning(
            f"{path.name} is not written: histories of pre-split files are not a user's first events"
        )
        return
    rows = _wanted(dataset, loaders).rows()
    write_summaries(path, ((user, n_events, result.summaries.get(i, "")) for i, user, n_events in rows if n_events))


def _of_all_processes(result: SummaryResult, writer: SummaryWriter) -> SummaryResult:
    """The main process's summaries for all, lest failures make them differ; with what all of them wrote for it."""
    if processes.count() == 1:
        return result
    made = processes.gathered(result.report["made"])
    of_writers = processes.gathered(dict(writer.report()))
    summed = {
        name: sum(of_writer.get(name, 0) for of_writer in of_writers)
        for name, value in of_writers[0].items()
        if isinstance(value, int | float)
    }
    first = processes.from_main(result)
    found = max(0, first.report["found"] - sum(made[1:]))  # in the store when the first came to look for them
    return replace(first, report={**first.report, **summed, "made": sum(made), "found": found})


def _wanted(dataset: LLMTRSRDataset, loaders: Sequence[Any]) -> _Wanted:
    rows = [loader._dataset.inter_feat for loader in loaders]
    ids = np.concatenate([part[HISTORY_ID].numpy() for part in rows]).astype(np.int64)
    users = np.concatenate([part[dataset.uid_field].numpy() for part in rows])
    ids, first = np.unique(ids, return_index=True)
    tokens = dataset.field2id_token[dataset.uid_field]
    n_events = dataset.histories.end[ids] - dataset.histories.begin[ids]
    return _Wanted(ids.tolist(), [str(tokens[user]) for user in users[first]], n_events.tolist())


def _from_file(config: Any, wanted: _Wanted) -> tuple[dict[int, str], dict[str, int]]:
    if config["benchmark_filename"] is not None:
        raise UserError(
            "summarizer: file:<path> knows a history by its user's first events, which histories of pre-split files"
            " (benchmark_filename) are not: choose another summarizer"
        )
    summaries = read_summaries(Path(config.settings.summary.summarizer.removeprefix(FILE)).expanduser())
    texts, counts = resolve(summaries, wanted.rows())
    return texts, {**counts, "identical_lines": summaries.n_identical, "empty_summaries": summaries.n_empty}


def run_writer(config: Any, item_text: ItemText) -> SummaryWriter:
    """The writer of a run's summaries.

    Args:
        config: our Config.
        item_text: its catalogue.

    Raises:
        UserError: as ``make_writer``.
    """
    settings = config.settings
    return make_writer(
        settings.summary,
        item_text,
        templates_for(settings.prompt.domain, settings.prompt.prompt_templates),
        device=config["device"],
        dtype=weights_dtype(settings.backbone.precision, config["device"]),
        trust_remote_code=settings.backbone.trust_remote_code,
    )


def store_path(name: str | None) -> Path | None:
    """The file that ``summary_store`` names; None keeps texts in memory."""
    return None if name is None else Path(name).expanduser()
