"""The explanation of one user's ranking, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from recbole_llmtrsr.explain.ranking import ExplainedCandidate, Ranked, ScoreRange, ranking, score_range
from recbole_llmtrsr.summarizer.trace import TracedCall

_SOURCES = {"stored": "found in the store", "written": "written now", "replaced": "replaced by the extractive writer"}
_ENDINGS = {"stop": "ended by itself", "length": "cut off at the limit"}


@dataclass(frozen=True)
class ExplainedItem:
    """An item: its token, and its text on one line."""

    token: str
    line: str


def as_read(decoded: str) -> str:
    """Decoded tokens without the space around them and without a character that was cut in the middle."""
    return decoded.rstrip("\ufffd").strip()


def facts(call: TracedCall) -> tuple[str, ...]:
    """The source of a call's text and its numbers of tokens, as texts."""
    tokens = f"{call.prompt_tokens} tokens read, {call.new_tokens} written"
    cost = (tokens, _ENDINGS.get(call.finish, call.finish)) if call.prompt_tokens or call.new_tokens else ()
    return (_SOURCES[call.source], *cost)


@dataclass(frozen=True)
class ExplainedBlock:
    """A block of the history.

    Attributes:
        first: number of its first event, from 1.
        items: its items, oldest first.
        call: the call that summarized them; None without one.
    """

    first: int
    items: tuple[ExplainedItem, ...]
    call: TracedCall | None

    @property
    def last(self) -> int:
        """Number of its last event."""
        return self.first + len(self.items) - 1


@dataclass(frozen=True)
class ExplainedSection:
    """One section of the prompt, as the model reads it.

    Attributes:
        name: what it holds.
        text: its tokens as text.
        tokens: number of its tokens.
        limit: maximum number of tokens; None for sections that are never cut.
        note: describes what was cut; '' where nothing was.
    """

    name: str
    text: str
    tokens: int
    limit: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """Everything that led to a user's ranking.

    Attributes:
        dataset: name of the data set.
        model: name of the model.
        user: token of the user; '' where a history was given by hand.
        target: the item that the user chose next; None where it is unknown.
        history: the items before it, oldest first.
        n_recent: number of the last items, which the prompt lists.
        block_size: items per block; None where summaries are off.
        calls: of the summary writer, inputs first.
        result: number of the call that gave the preference summary; None without one.
        summary: the preference summary; None where summaries are off.
        sections: of the prompt with the candidate ``shown``; empty where no prompt was made.
        prompt_limit: maximum number of tokens of a prompt and its answer.
        candidates: scored items; empty where nothing was scored.
        no_candidates: the reason for that.
        n_targets: targets of this user in the split, of which the latest is explained.
        options: names and values of the options that shaped the ranking.
        shown: the candidate at the end of the prompt; None where no prompt was made.
    """

    dataset: str
    model: str
    user: str
    target: ExplainedItem | None
    history: tuple[ExplainedItem, ...]
    n_recent: int
    block_size: int | None
    calls: tuple[TracedCall, ...] = ()
    result: int | None = None
    summary: str | None = None
    sections: tuple[ExplainedSection, ...] = ()
    prompt_limit: int | None = None
    candidates: tuple[ExplainedCandidate, ...] = ()
    no_candidates: str = ""
    n_targets: int = 1
    options: tuple[tuple[str, str], ...] = ()
    shown: ExplainedItem | None = None

    @cached_property
    def blocks(self) -> tuple[ExplainedBlock, ...]:
        """The history in blocks, each with the call that read it.

        The calls that read items, in the order of the chain or tree, belong to consecutive blocks: up to the last one,
        or up to the last full one where the unfinished block was left to the recent items.
        """
        size = self.block_size or max(1, len(self.history))
        starts = range(0, len(self.history), size)
        cut = [self.history[start : start + size] for start in starts]
        calls: list[TracedCall | None] = list(self._readers)
        if calls and len(cut[-1]) < size and calls[-1] and len(calls[-1].items) != len(cut[-1]):
            calls.append(None)
        calls = [*[None] * (len(cut) - len(calls)), *calls]
        return tuple(
            ExplainedBlock(start + 1, items, call) for start, items, call in zip(starts, cut, calls, strict=True)
        )

    @cached_property
    def merges(self) -> tuple[TracedCall, ...]:
        """Calls that read no block, inputs first."""
        readers = {call.number for call in self._readers}
        return tuple(call for call in self.calls if call.number not in readers)

    @cached_property
    def ranking(self) -> tuple[Ranked, ...]:
        """The candidates, best first."""
        return ranking(self.candidates)

    @cached_property
    def ranked_target(self) -> Ranked | None:
        """The target among the candidates; None where nothing was scored."""
        return next((ranked for ranked in self.ranking if ranked.candidate.is_target), None)

    @cached_property
    def score_range(self) -> ScoreRange | None:
        """The range of the candidates' scores; None where nothing was scored."""
        return score_range(self.candidates)

    @cached_property
    def summary_read(self) -> str | None:
        """The beginning of the summary that the prompt shows; None where the prompt shows something else."""
        read = next((as_read(section.text) for section in self.sections if section.name == "summary"), None)
        return read if read and self.summary and self.summary.startswith(read) else None

    @property
    def subject(self) -> str:
        """The user or the history that was ranked."""
        return f"user {self.user}" if self.user else "a history given by hand"

    @property
    def prompt_of(self) -> str:
        """Names the candidate at the end of the prompt."""
        if self.target is not None or self.shown is None:
            return "the target"
        return f"the candidate {self.shown.token}"

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, without the answer."""
        return sum(section.tokens for section in self.sections)

    @cached_property
    def by_number(self) -> dict[int, TracedCall]:
        """Calls by their numbers."""
        return {call.number: call for call in self.calls}

    def is_recent(self, event: int) -> bool:
        """Whether the prompt shows the item of an event, numbered from 1, among the recent items."""
        return event > len(self.history) - self.n_recent

    @cached_property
    def _readers(self) -> tuple[TracedCall, ...]:
        """The calls that read items, in the order of their blocks; a call shared by equal blocks is repeated."""
        readers: dict[int, tuple[int, ...]] = {}
        for call in self.calls:
            below = chain.from_iterable(readers[i] for i in call.inputs)
            readers[call.number] = (*below, *([] if call.kind == "merge" else [call.number]))
        return tuple(self.by_number[i] for i in readers[self.result]) if self.result is not None else ()
