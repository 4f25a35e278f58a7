"""The writer that prompts a language model, as in the paper."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from recbole_llmtrsr.errors import one_line
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure, MeasuredSpeed, TextGenerator
from recbole_llmtrsr.llm.tokenization.thoughts import without_thoughts
from recbole_llmtrsr.summarizer.jobs import Job, Kind
from recbole_llmtrsr.summarizer.writers.writing_prompts import WritingPrompts

if TYPE_CHECKING:
    from recbole_llmtrsr.prompt.templates import Templates

CHARACTERS_PER_TOKEN = 16  # upper bound; longer texts come from servers that ignore the token limit
VERSION = 2  # version of prompts and of the cleaning of answers; a test requires a new number when either changes


class LLMWriter:
    """Fills the block, update and merge templates and generates answers.

    Args:
        generator: generates text greedily, so that equal prompts give equal texts.
        templates: wording of the prompts.
        max_new_tokens: maximum number of tokens of an answer.

    Attributes:
        prompts: builds the prompts.

    Raises:
        UserError: the context is too small for the templates and an answer.
    """

    def __init__(self, generator: TextGenerator, templates: Templates, max_new_tokens: int) -> None:
        self.name = generator.name
        self._generator = generator
        self._templates = templates
        self._max_new_tokens = max_new_tokens
        self.prompts = WritingPrompts(templates, generator, generator.max_prompt_tokens - max_new_tokens)
        self._report = {"prompts": 0, "prompt_tokens": 0, "new_tokens": 0, "thoughts_removed": 0}

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, object]:
        """Return the generator's settings, the wording of this kind of prompt, the version and the answer's limit."""
        return {
            "writer": "llm",
            "version": VERSION,
            "generator": dict(self._generator.settings),
            "prompt": list(self.wording(kind)[: attempt + 1]),
            # An update of an empty text uses the wording of a block.
            **({"block": self._templates.block} if kind == "update" else {}),
            "max_new_tokens": self._max_new_tokens,
        }

    def wording(self, kind: Kind) -> Sequence[str]:
        """Return the template of this kind, and the sentence that a second attempt appends."""
        templates = self._templates
        return {"block": templates.block, "update": templates.update, "merge": templates.merge}[kind], templates.retry

    def run(self, jobs: Sequence[Job]) -> Generator[list[tuple[int, GeneratedText | GenerationFailure]], None, None]:
        """Answer each job with one prompt.

        A merge of empty texts gives '' without a prompt, and an update of '' uses the prompt of a block.
        """
        prompted = [number for number, job in enumerate(jobs) if job.kind != "merge" or any(job.inputs)]
        if silent := set(range(len(jobs))).difference(prompted):
            yield [(number, GeneratedText("")) for number in sorted(silent)]
        if not prompted:
            return
        prompts = [self.prompts.prompt(jobs[number]) for number in prompted]
        self._report["prompts"] += len(prompts)
        with closing(self._generator.generate(prompts, self._max_new_tokens)) as answers:
            for position, answer in answers:
                yield [(prompted[position], answer if isinstance(answer, GenerationFailure) else self._cleaned(answer))]

    def measure(self, jobs: Sequence[Job], n_jobs: int) -> MeasuredSpeed | None:
        """Measure the generator's speed on some of ``n_jobs`` jobs that run together; None if that could cost money."""
        cuts = dict(self.prompts.cuts)
        speed = self._generator.measure(list(map(self.prompts.prompt, jobs)), n_jobs, self._max_new_tokens)
        self.prompts.cuts.update(cuts)
        return speed

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text by the generator's tokenizer."""
        return self._generator.count_tokens(text)

    def report(self) -> Mapping[str, int]:
        """Return counts of prompts, tokens and cuts, and the generator's counts."""
        return {**self._report, **self.prompts.cuts, **self._generator.report()}

    def _cleaned(self, answer: GeneratedText) -> GeneratedText:
        """Remove reasoning from an answer, put it on one line, and enforce its limit."""
        text, thoughts = without_thoughts(answer.text)
        # JSON can contain a lone surrogate, which cannot be stored as UTF-8.
        text = one_line(text.encode("utf-8", "replace").decode("utf-8"))
        most = CHARACTERS_PER_TOKEN * self._max_new_tokens
        self._report["thoughts_removed"] += thoughts
        self._report["prompt_tokens"] += answer.prompt_tokens
        self._report["new_tokens"] += answer.new_tokens
        return replace(answer, text=text[:most], finish=answer.finish if len(text) <= most else "length")
