"""The summarization stage of a run: histories, writer and store of its summaries, and the file of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path

import numpy as np
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.number_format import model_dtype
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.summarizer.cost import estimate
from recbole_llmtrsr.summarizer.from_file import read_summaries, resolve, write_summaries
from recbole_llmtrsr.summarizer.run_record import RunRecord
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.summarize import SummaryResult, plan_calls, summarize
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter
from recbole_llmtrsr.summarizer.writers.make_writer import EXTRACTIVE, FILE, make_writer
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter

MANY = 10  # histories whose summaries are not expected to be all the same


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
    config: Config,
    dataset: LLMTRSRDataset,
    loaders: Sequence[AbstractDataLoader],
    traced: Sequence[int] = (),
    record: RunRecord | None = None,
) -> SummaryResult:
    """Summarize every history of the loaders and set the summaries in the data set.

    Args:
        config: options of the run.
        dataset: whose histories are summarized.
        loaders: of all splits.
        traced: ids of histories whose calls the result lists.
        record: calls that got no answer in other runs of the command, to which this run adds its own.

    Raises:
        UserError: a fault of the summarizer, the store or the file of summaries; no history has a summary; or extracts
            replace more than half of the texts.
    """
    settings = config.settings.summary
    if settings.summary == "none":
        return SummaryResult({}, {})
    if settings.summarizer == EXTRACTIVE:  # writes the same texts again
        record = None
    wanted = _wanted(dataset, loaders)
    if settings.summarizer.startswith(FILE):
        texts, counts = _from_file(config, wanted)
        result = SummaryResult(texts, {"histories": len(wanted.ids), "from_file": counts})
    else:
        writer = run_writer(config, dataset.item_text)
        calls = plan_calls(dataset.histories, wanted.ids, dataset.items, dataset.item_tokens, writer, settings)

        def summarized() -> SummaryResult:
            with SummaryStore(store_path(settings.summary_store)) as store:
                if record is not None:
                    record.fill(store)
                made = summarize(
                    wanted.ids,
                    calls,
                    writer,
                    store,
                    settings,
                    lambda: ExtractiveWriter(dataset.item_text),
                    traced=traced,
                    unanswered=record.unanswered() if record is not None else None,
                    is_judged=True,
                    show_progress=bool(config["show_progress"]),
                )
                if record is not None and processes.is_main():  # whose texts all processes take
                    record.keep(store, made.unanswered)
                return made

        if settings.summary_store is None:
            result = processes.run_on_main(summarized)  # there is nothing to share
        else:
            result = _of_all_processes(summarized(), writer)
    _check_texts(result, settings.block_size)
    dataset.set_summaries(result.summaries)
    return result


def summary_cost(config: Config, dataset: LLMTRSRDataset, loaders: Sequence[AbstractDataLoader]) -> str:
    """Estimate calls, tokens and time of the summaries as text, without writing any; raises as ``make_summaries``."""
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
        return estimate(calls, writer, store, settings, lambda: ExtractiveWriter(dataset.item_text)).text()


def save_summaries(
    path: Path, dataset: LLMTRSRDataset, loaders: Sequence[AbstractDataLoader], result: SummaryResult
) -> None:
    """Save the summaries as JSON lines for ``summarizer: file:<path>``; histories without events are left out."""
    if dataset.config["benchmark_filename"] is not None:
        dataset.logger.warning(
            f"{path.name} is not written: histories of pre-split files are not a user's first events"
        )
        return
    rows = _wanted(dataset, loaders).rows()
    write_summaries(path, ((user, n_events, result.summaries.get(i, "")) for i, user, n_events in rows if n_events))


def _of_all_processes(result: SummaryResult, writer: SummaryWriter) -> SummaryResult:
    """Broadcast rank 0's summaries, so that failures make no process differ, and sum the counts of all processes."""
    if processes.count() == 1:
        return result
    made = processes.all_gather(result.report["made"])
    of_writers = processes.all_gather(dict(writer.report()))
    summed = {
        name: sum(of_writer.get(name, 0) for of_writer in of_writers)
        for name, value in of_writers[0].items()
        if isinstance(value, int | float)
    }
    first = processes.broadcast(result)
    found = max(0, first.report["found"] - sum(made[1:]))  # in the store when the first came to look for them
    return replace(first, report={**first.report, **summed, "made": sum(made), "found": found})


def _wanted(dataset: LLMTRSRDataset, loaders: Sequence[AbstractDataLoader]) -> _Wanted:
    rows = [loader._dataset.inter_feat for loader in loaders]
    ids = np.concatenate([part[HISTORY_ID].numpy() for part in rows]).astype(np.int64)
    users = np.concatenate([part[dataset.uid_field].numpy() for part in rows])
    ids, first = np.unique(ids, return_index=True)
    tokens = dataset.field2id_token[dataset.uid_field]
    n_events = dataset.histories.end[ids] - dataset.histories.begin[ids]
    return _Wanted(ids.tolist(), [str(tokens[user]) for user in users[first]], n_events.tolist())


def _from_file(config: Config, wanted: _Wanted) -> tuple[dict[int, str], dict[str, int]]:
    if config["benchmark_filename"] is not None:
        raise UserError(
            "summarizer: file:<path> identifies a history by the number of its user's first events, but histories of"
            " pre-split files (benchmark_filename) need not be first events: choose another summarizer"
        )
    summaries = read_summaries(Path(config.settings.summary.summarizer.removeprefix(FILE)).expanduser())
    texts, counts = resolve(summaries, wanted.rows())
    _check_found(config, counts, sum(n > 0 for n in wanted.n_events))
    return texts, {**counts, "identical_lines": summaries.n_identical, "empty_summaries": summaries.n_empty}


def _check_found(config: Config, counts: Mapping[str, int], n_histories: int) -> None:
    """Refuse a file without a summary for any of the histories that have events, and warn of one for less than half."""
    found = counts["exact"] + counts["earlier"]
    message = (
        f"summarizer {config.settings.summary.summarizer} has a summary for {found or 'none'} of {n_histories}"
        f" histories ({counts['users_without']} users have none there, {counts['only_later']} histories later ones"
        f" alone): user_id must be a user of '{config['dataset']}', and n_events the number of the user's first events"
        " after this run's filters"
    )
    if n_histories and not found:
        raise UserError(message)
    if found < n_histories / 2:
        getLogger(__name__).warning(message)


def _check_texts(result: SummaryResult, block_size: int) -> None:
    """Refuse summaries that are all empty, and warn if many are empty or all of them are equal."""
    texts, warn = Counter(result.summaries.values()), getLogger(__name__).warning
    n_expected = texts.total() - result.report.get("histories_without_block", 0)
    n_found = texts.total() - texts.pop("", 0)
    why = (
        "because the items' texts or the summarizer give none: name other item_text_fields, choose another summarizer,"
        " or set summary: none"
    )
    if n_expected and not n_found:
        raise UserError(f"none of {n_expected} summaries has any text, {why}")
    if result.summaries and not n_expected:
        warn(
            f"no history has a full block of {block_size} items, so no prompt has a summary: lower block_size, or set"
            " summarize_remainder: yes"
        )
    elif n_found < n_expected / 2 and "from_file" not in result.report:
        warn(f"{n_expected - n_found} of {n_expected} summaries have no text, {why}")
    elif len(texts) == 1 and n_found >= MANY:
        warn(
            f"all {n_found} summaries are equal ('{next(iter(texts))[:60]}'), so they carry no information about users:"
            " choose another summarizer, or inspect its prompts and answers with --explain=<user id>"
        )


def run_writer(config: Config, item_text: ItemText) -> SummaryWriter:
    """The writer of a run's summaries; raises as ``make_writer``."""
    settings = config.settings
    return make_writer(
        settings.summary,
        item_text,
        templates_for(settings.prompt.domain, settings.prompt.prompt_templates),
        device=config["device"],
        dtype=model_dtype(settings.backbone.precision, config["device"]),
        trust_remote_code=settings.backbone.trust_remote_code,
    )


def store_path(name: str | None) -> Path | None:
    """The file that ``summary_store`` names; None keeps texts in memory."""
    return None if name is None else Path(name).expanduser()
