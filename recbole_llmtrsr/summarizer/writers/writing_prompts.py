"""Prompts of an LLM writer, built from templates and cut to the model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.summarizer.jobs import Job

if TYPE_CHECKING:
    from recbole_llmtrsr.llm.generators.generation import TextGenerator
    from recbole_llmtrsr.prompt.templates import Templates

BULLET = "- "
MIN_ROOM = 16  # minimum number of tokens for items or summaries in a useful prompt
MAX_PREVIOUS_SHARE = 0.5  # share of an update prompt's room for the previous summary; the rest is for the new items


class WritingPrompts:
    """Builds one prompt per job within a token budget.

    If a prompt is too long, item texts are cut to a common limit, so that short ones stay whole; a previous summary is
    cut to half of the room; a merge leaves out the oldest summaries. Each cut is counted.

    Args:
        templates: wording of the prompts.
        generator: counts and trims tokens.
        budget: maximum number of tokens of a prompt.

    Attributes:
        budget: maximum number of tokens of a prompt.
        cuts: numbers of trimmed items, trimmed summaries and dropped summaries so far.

    Raises:
        UserError: the budget is too small for the templates.
    """

    def __init__(self, templates: Templates, generator: TextGenerator, budget: int) -> None:
        self.cuts = {"trimmed_items": 0, "trimmed_summaries": 0, "dropped_summaries": 0}
        self._templates, self._generator, self.budget = templates, generator, budget
        self._line_tokens = generator.count_tokens(f"{BULLET}\n")
        longest = max(
            generator.count_tokens(text + templates.retry)
            for text in (
                templates.block.format(items=""),
                templates.update.format(summary="", items=""),
                templates.merge.format(summaries=""),
            )
        )
        if budget - longest <= MIN_ROOM:
            raise UserError(
                f"summarizer {generator.name}: without the answer, its context has {budget} tokens, which is too few"
                f" for the wording ({longest}) and a history: lower summarizer_max_new_tokens, shorten"
                " prompt_templates or choose a model with a longer context"
            )

    def prompt(self, job: Job) -> str:
        """Build the prompt of a job.

        Raises:
            UserError: the items of a block do not fit into the prompt.
        """
        templates, end = self._templates, self._templates.retry if job.attempt else ""
        if job.kind == "merge":
            return self._merge(job.inputs, lambda summaries: templates.merge.format(summaries=summaries) + end)
        if job.inputs and job.inputs[0]:
            return self._update(
                job.inputs[0],
                job.items,
                lambda summary, items: templates.update.format(summary=summary, items=items) + end,
            )
        return self._with_items(job.items, lambda items: templates.block.format(items=items) + end)

    def _update(self, summary: str, block: Sequence[Item], fill: Callable[[str, str], str]) -> str:
        most = int(-self._excess(fill("", "")) * MAX_PREVIOUS_SHARE)
        whole = fill(summary, lines([item.line for item in block]))
        if self._excess(whole) > 0 and self._generator.count_tokens(summary) > most:
            summary = self._trimmed_summary(summary, most)
        return self._with_items(block, lambda items: fill(summary, items))

    def _with_items(self, items: Sequence[Item], fill: Callable[[str], str]) -> str:
        texts = whole = [item.line for item in items]
        room = -self._excess(fill(""))
        # Texts can have more tokens together than separately, so the whole prompt is counted.
        while self._excess(prompt := fill(lines(texts))) > 0:
            texts = self._trimmed_lines(whole, room)
            room -= 1
        self.cuts["trimmed_items"] += sum(new != old for new, old in zip(texts, whole, strict=True))
        return prompt

    def _trimmed_lines(self, whole: Sequence[str], room: int) -> list[str]:
        sizes = [self._generator.count_tokens(line) for line in whole]
        limits = fair_limits(sizes, room - len(whole) * self._line_tokens)
        if min(limits) < 1:
            longest = max(range(len(whole)), key=sizes.__getitem__)
            raise UserError(
                f"summarizer {self._generator.name}: its context has {room} tokens for a block of {len(whole)} items,"
                f" the longest of which takes {sizes[longest]} ('{whole[longest][:60]}'), so some items would have no"
                " tokens: lower block_size or summarizer_max_new_tokens, or choose a model with a longer context"
            )
        return [self._fitted(line, limit) for line, limit in zip(whole, limits, strict=True)]

    def _merge(self, group: Sequence[str], fill: Callable[[str], str]) -> str:
        texts = [text for text in group if text]
        prompt = fill(lines(texts))
        if self._excess(prompt) <= 0:
            return prompt
        room = -self._excess(fill(""))
        sizes = [self._generator.count_tokens(f"{BULLET}{text}\n") for text in texts]
        while self._excess(prompt) > 0:
            if len(texts) > 1:
                n_dropped = next(n for n in range(1, len(texts)) if n == len(texts) - 1 or sum(sizes[n:]) <= room)
                del texts[:n_dropped], sizes[:n_dropped]
                self.cuts["dropped_summaries"] += n_dropped
            else:
                texts = [self._trimmed_summary(texts[0], room - self._line_tokens)]
                room -= 1
            prompt = fill(lines(texts))
        return prompt

    def _excess(self, prompt: str) -> int:
        """Number of tokens beyond the budget; negative if there is room."""
        return self._generator.count_tokens(prompt) - self.budget

    def _trimmed_summary(self, text: str, room: int) -> str:
        self.cuts["trimmed_summaries"] += 1
        return self._fitted(text, room)

    def _fitted(self, text: str, limit: int) -> str:
        """Cut a text to a number of tokens; a cut can fall inside a token, so the result is counted again."""
        if self._generator.count_tokens(text) <= limit:
            return text
        for n_tokens in range(limit, 0, -1):
            trimmed = self._generator.trim(text, n_tokens).rstrip()
            if self._generator.count_tokens(trimmed) <= limit:
                return trimmed
        return ""


def fair_limits(lengths: Sequence[int], room: int) -> list[int]:
    """Set the highest common limit that the room allows; long texts get the room that short ones leave.

    >>> fair_limits([2, 10, 10], 14)
    [2, 6, 6]
    """
    limits = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for done, i in enumerate(order):
        limits[i] = min(lengths[i], max(0, room) // (len(order) - done))
        room -= limits[i]
    return limits


def lines(texts: Sequence[str]) -> str:
    """Format texts as a list, one per line."""
    return "\n".join(BULLET + text for text in texts)
