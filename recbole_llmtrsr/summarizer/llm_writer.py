"""The writer that asks a language model, as in the paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from recbole_llmtrsr.data.item_text import Item, one_line
from recbole_llmtrsr.errors import UserError

if TYPE_CHECKING:
    from recbole_llmtrsr.llm.generation import TextGenerator
    from recbole_llmtrsr.prompt.templates import Templates

BULLET = "- "
MIN_ROOM = 16  # tokens for items or summaries; with less no prompt makes sense
MAX_PREVIOUS_SHARE = 0.5  # of an update prompt's room for the previous summary, so that the new items get a say


class LLMWriter:
    """Fills the block, update and merge templates and lets a generator answer.

    A prompt never exceeds the generator's context: long item texts are cut, the longest first, a previous summary is
    cut to half of the room, and merges leave out the oldest summaries. Each cut is counted in the report.

    Args:
        generator: greedy, so that equal prompts give equal texts.
        templates: wording.
        max_new_tokens: longest answer, in tokens.

    Raises:
        UserError: the context has no room for the templates and an answer.
    """

    def __init__(self, generator: TextGenerator, templates: Templates, max_new_tokens: int) -> None:
        self.name = generator.name
        self._generator = generator
        self._templates = templates
        self._max_new_tokens = max_new_tokens
        self._budget = generator.max_prompt_tokens - max_new_tokens
        self._report = dict.fromkeys(
            (
                "prompts",
                "prompt_tokens",
                "new_tokens",
                "trimmed_items",
                "trimmed_summaries",
                "dropped_summaries",
                "empty",
                "unfinished",
            ),
            0,
        )
        for prompt in (self._block(""), self._update("", ""), self._merge("")):
            if -self._excess(prompt) <= MIN_ROOM:
                raise UserError(
                    f"summarizer {self.name} takes {generator.max_prompt_tokens} tokens, too few for the prompt, the"
                    f" history and summarizer_max_new_tokens={max_new_tokens}: lower summarizer_max_new_tokens,"
                    " shorten prompt_templates or choose a model with a longer context"
                )

    def write(self, blocks: Sequence[Sequence[Item]]) -> list[str]:
        """One prompt per block."""
        return self._answers([self._with_items(self._block, block) for block in blocks])

    def update(self, previous: Sequence[str], blocks: Sequence[Sequence[Item]]) -> list[str]:
        """One prompt per previous summary and block; an empty previous summary asks for the block alone."""
        return self._answers([self._update_prompt(*job) for job in zip(previous, blocks, strict=True)])

    def merge(self, groups: Sequence[Sequence[str]]) -> list[str]:
        """One prompt per group; a group without any text gives '' and no prompt."""
        prompts = {number: self._merge_prompt(group) for number, group in enumerate(groups) if any(group)}
        answers = dict(zip(prompts, self._answers(list(prompts.values())), strict=True))
        return [answers.get(number, "") for number in range(len(groups))]

    def report(self) -> dict[str, int]:
        """Prompts, tokens read and written, cuts, and answers that were empty or not finished."""
        return dict(self._report)

    def _block(self, items: str) -> str:
        return self._templates.block.format(items=items)

    def _update(self, summary: str, items: str) -> str:
        return self._templates.update.format(summary=summary, items=items)

    def _merge(self, summaries: str) -> str:
        return self._templates.merge.format(summaries=summaries)

    def _update_prompt(self, summary: str, block: Sequence[Item]) -> str:
        if not summary:
            return self._with_items(self._block, block)
        most = int(-self._excess(self._update("", "")) * MAX_PREVIOUS_SHARE)
        whole = self._update(summary, _lines([item.line for item in block]))
        if self._excess(whole) > 0 and self._generator.count_tokens(summary) > most:
            summary = self._trimmed_summary(summary, most)
        return self._with_items(lambda items: self._update(summary, items), block)

    def _with_items(self, fill: Callable[[str], str], items: Sequence[Item]) -> str:
        """A prompt with one line per item; if it is too long all get the same limit, and short ones stay whole."""
        lines = whole = [item.line for item in items]
        room = -self._excess(fill(""))
        # Texts tokenized together can need more tokens than apart, so the prompt itself is what is counted.
        while self._excess(prompt := fill(_lines(lines))) > 0:
            lines = self._trimmed_lines(whole, room)
            room -= 1
        self._report["trimmed_items"] += sum(new != old for new, old in zip(lines, whole, strict=True))
        return prompt

    def _trimmed_lines(self, lines: Sequence[str], room: int) -> list[str]:
        sizes = [self._generator.count_tokens(line) for line in lines]
        limits = fair_limits(sizes, room - len(lines) * self._line_tokens)
        if min(limits) < 1:
            raise UserError(
                f"summarizer {self.name} takes {self._generator.max_prompt_tokens} tokens, too few for a block of"
                f" {len(lines)} items: lower block_size or summarizer_max_new_tokens"
            )
        return [self._fitted(line, limit) for line, limit in zip(lines, limits, strict=True)]

    def _merge_prompt(self, group: Sequence[str]) -> str:
        texts = [text for text in group if text]
        prompt = self._merge(_lines(texts))
        room = -self._excess(self._merge(""))
        sizes = [self._generator.count_tokens(f"{BULLET}{text}\n") for text in texts]
        while self._excess(prompt) > 0:
            if len(texts) > 1:
                n_dropped = next(n for n in range(1, len(texts)) if n == len(texts) - 1 or sum(sizes[n:]) <= room)
                del texts[:n_dropped], sizes[:n_dropped]
                self._report["dropped_summaries"] += n_dropped
            else:
                texts = [self._trimmed_summary(texts[0], room - self._line_tokens)]
                room -= 1
            prompt = self._merge(_lines(texts))
        return prompt

    def _excess(self, prompt: str) -> int:
        """Tokens beyond what the generator takes; negative where there is room."""
        return self._generator.count_tokens(prompt) - self._budget

    @property
    def _line_tokens(self) -> int:
        return self._generator.count_tokens(f"{BULLET}\n")

    def _trimmed_summary(self, text: str, room: int) -> str:
        self._report["trimmed_summaries"] += 1
        return self._fitted(text, room)

    def _fitted(self, text: str, limit: int) -> str:
        """The text, cut to a number of tokens; a cut can fall inside a token, so it is counted again."""
        if self._generator.count_tokens(text) <= limit:
            return text
        for n_tokens in range(limit, 0, -1):
            trimmed = self._generator.trim(text, n_tokens).rstrip()
            if self._generator.count_tokens(trimmed) <= limit:
                return trimmed
        return ""

    def _answers(self, prompts: Sequence[str]) -> list[str]:
        generations = self._generator.generate(prompts, self._max_new_tokens) if prompts else []
        texts = [one_line(generation.text) for generation in generations]
        self._report["prompts"] += len(prompts)
        self._report["prompt_tokens"] += sum(generation.n_prompt_tokens for generation in generations)
        self._report["new_tokens"] += sum(generation.n_new_tokens for generation in generations)
        self._report["empty"] += sum(not text for text in texts)
        self._report["unfinished"] += sum(not generation.finished for generation in generations)
        return texts


def fair_limits(lengths: Sequence[int], room: int) -> list[int]:
    """The same limit for all, as high as the room allows; what short ones leave goes to the long ones.

    >>> fair_limits([2, 10, 10], 14)
    [2, 6, 6]
    """
    limits = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for done, i in enumerate(order):
        limits[i] = min(lengths[i], max(0, room) // (len(order) - done))
        room -= limits[i]
    return limits


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(BULLET + text for text in texts)
