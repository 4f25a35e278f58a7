"""Texts that a summary writer gives for blocks, updates and merges."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.summarizer.jobs import Job
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter


def answers(writer: SummaryWriter, jobs: Sequence[Job]) -> list[str]:
    """The texts in the order of the jobs, each of which must be answered once."""
    found = dict(pair for some in writer.run(jobs) for pair in some)
    assert sorted(found) == list(range(len(jobs)))
    return [answer.text for _, answer in sorted(found.items())]


def write(writer: SummaryWriter, blocks: Sequence[Sequence[Item]]) -> list[str]:
    return answers(writer, [Job("block", tuple(block)) for block in blocks])


def update(writer: SummaryWriter, previous: Sequence[str], blocks: Sequence[Sequence[Item]]) -> list[str]:
    pairs = zip(previous, blocks, strict=True)
    return answers(writer, [Job("update", tuple(block), (text,)) for text, block in pairs])


def merge(writer: SummaryWriter, groups: Sequence[Sequence[str]]) -> list[str]:
    return answers(writer, [Job("merge", inputs=tuple(group)) for group in groups])
