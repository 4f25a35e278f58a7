"""The writer that asks a language model, as in the paper."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.llm.generation import NoGeneration
from recbole_llmtrsr.summarizer.jobs import Answer, Failure, Job, Kind
from recbole_llmtrsr.summarizer.writers.writing_prompts import WritingPrompts

if TYPE_CHECKING:
    from recbole_llmtrsr.llm.generation import Generation, TextGenerator
    from recbole_llmtrsr.prompt.templates import Templates

VERSION = 1  # of how prompts are filled and cut: a change that changes prompts needs another number


class LLMWriter:
    """Fills the block, update and merge templates and lets a generator answer.

    Args:
        generator: greedy, so that equal prompts give equal texts.
        templates: wording.
        max_new_tokens: longest answer, in tokens.
        context: what the user says that the model takes, prompt and answer together; it decides what is cut.
    """

    def __init__(
        self, generator: TextGenerator, templates: Templates, max_new_tokens: int, context: int | None = None
    ) -> None:
        self.name = generator.name
        self._generator = generator
        self._templates = templates
        self._max_new_tokens = max_new_tokens
        self._context = context
        self._report = {"prompts": 0, "prompt_tokens": 0, "new_tokens": 0}

    @cached_property
    def prompts(self) -> WritingPrompts:
        """What makes the prompts; made late, because a server must be asked for its context.

        Raises:
            UserError: the context has no room for the templates and an answer.
        """
        budget = self._generator.max_prompt_tokens - self._max_new_tokens
        return WritingPrompts(self._templates, self._generator, budget, self.name)

    def settings(self, kind: Kind, attempt: int = 0) -> Mapping[str, Any]:
        """The generator, the wording of this kind of prompt, the rules by which it is filled and the answer's limit."""
        return {
            "writer": "llm",
            "version": VERSION,
            "generator": dict(self._generator.settings),
            "prompt": list(self.wording(kind)[: attempt + 1]),
            "max_new_tokens": self._max_new_tokens,
            "context": self._context,
        }

    def wording(self, kind: Kind) -> Sequence[str]:
        """The template of this kind, and what is added for a second attempt."""
        templates = self._templates
        return {"block": templates.block, "update": templates.update, "merge": templates.merge}[kind], templates.retry

    def run(self, jobs: Sequence[Job]) -> Generator[list[tuple[int, Answer | Failure]], None, None]:
        """One prompt per job; a merge without any text is '' without one, an update of '' asks for the block alone."""
        asked = [number for number, job in enumerate(jobs) if job.kind != "merge" or any(job.inputs)]
        if silent := set(range(len(jobs))).difference(asked):
            yield [(number, Answer("")) for number in sorted(silent)]
        if not asked:
            return
        prompts = [self.prompts.prompt(jobs[number]) for number in asked]
        self._report["prompts"] += len(prompts)
        with closing(self._generator.generate(prompts, self._max_new_tokens)) as generations:
            for position, generation in generations:
                yield [(asked[position], self._answer(generation))]

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, as the generator counts them."""
        return self._generator.count_tokens(text)

    def report(self) -> Mapping[str, int]:
        """Prompts, tokens read and written, cuts, and what the generator went through."""
        cuts = self.prompts.cuts if "prompts" in self.__dict__ else {}
        return {**self._report, **cuts, **self._generator.report()}

    def _answer(self, generation: Generation | NoGeneration) -> Answer | Failure:
        if isinstance(generation, NoGeneration):
            return Failure(generation.reason)
        self._report["prompt_tokens"] += generation.n_prompt_tokens
        self._report["new_tokens"] += generation.n_new_tokens
        return Answer(
            # JSON can spell half a surrogate pair, which is no text and cannot be stored.
            one_line(generation.text.encode("utf-8", "replace").decode("utf-8")),
            generation.n_prompt_tokens,
            generation.n_new_tokens,
            generation.seconds,
            "stop" if generation.finished else "length",
        )
