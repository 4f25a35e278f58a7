"""Builder of all prompts, which keeps them within the token budget and counts what it trims.

A prompt consists of token sections, which are encoded separately and then joined::

    [instruction][summary][recent items][candidate header] | [candidate][answer slot]
     ---------------- prefix, one per history ------------   -- one per candidate --

The prefix therefore has the same ids for all candidates, and plain and shared-prefix scoring read the same ids. The
instruction, the headers, the candidate and the answer slot are never cut; an item's text has at most
``max_item_tokens`` tokens and is the same in all prompts. If a prompt is too long, the builder leaves out the oldest
recent items and cuts the end of the summary.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from recbole_llmtrsr.config.options import PromptSettings
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.tokenization.chat import chat_frame
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText
from recbole_llmtrsr.llm.tokenization.thoughts import past_thoughts
from recbole_llmtrsr.prompt.templates import Templates
from recbole_llmtrsr.runtime.packing import groups

Ids = npt.NDArray[np.int32]

_ITEMS_AT_ONCE = 10_000
MOST_KEPT = 2**28  # cached prefix tokens, 1 GiB; prefixes of further histories are rebuilt at each call


@dataclass(frozen=True, slots=True)
class PromptSection:
    """One section of a prompt, as the model reads it.

    Attributes:
        name: 'instruction', 'summary header', 'summary', 'recent header', 'recent items', 'candidate header',
            'candidate' or 'answer slot'.
        ids: token ids of the section.
        text: the decoded tokens.
        limit: maximum number of tokens; None for a section that is never cut.
        tokens_cut: number of tokens cut from the end of a summary, or of a candidate that the caller wrote.
        items: the recent items, or the candidate, in the section.
        items_left_out: recent items for which there is no room, oldest first.
        items_cut: number of tokens cut from the ends of the items, by item id.
    """

    name: str
    ids: tuple[int, ...]
    text: str
    limit: int | None = None
    tokens_cut: int = 0
    items: tuple[int, ...] = ()
    items_left_out: tuple[int, ...] = ()
    items_cut: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class _History:
    """The part of a history that a prompt has room for."""

    summary: list[int]
    summary_limit: int
    summary_cut: int
    recent: list[int]
    recent_limit: int
    items: tuple[int, ...]
    items_left_out: tuple[int, ...]


class PromptBuilder:
    """Builds prefix and candidate ids for one tokenizer, one wording and one catalogue.

    Args:
        tokenizer: a transformers tokenizer.
        templates: the wording of the prompts.
        settings: token budgets and answers.
        catalogue: text of every item, by item id; one line each.
        with_summary: whether prompts have a summary section.

    Attributes:
        slot_text: the text directly before the answer, from which the answers' token ids are derived.
        separator: the text between ``slot_text`` and an answer.
        leading: ids that the tokenizer puts in front of a text, such as a begin-of-sequence token.
        trims: counts of prompts, of cut items and summaries, and of recent items left out.
        trimmed: ids of the histories whose summary was cut or whose recent items were left out.

    Raises:
        UserError: if ``max_prompt_tokens`` has no room for the sections that are never cut.

    Source:
        The sections follow the order of the paper's prompt. Deviation: the authors cut prompts at the right, through
        the candidate and the answer slot.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        templates: Templates,
        settings: PromptSettings,
        catalogue: Sequence[str],
        *,
        with_summary: bool,
    ) -> None:
        self.trims: Counter[str] = Counter(prompts=0, items_cut=0, summaries_cut=0, recent_items_left_out=0)
        self.trimmed: set[int] = set()
        self._tokenizer = tokenizer
        self._plain_text = PlainText(tokenizer)
        self._settings = settings
        self._with_summary = with_summary
        opening, closing = "", ""
        if settings.chat_template == "auto" and getattr(tokenizer, "chat_template", None):
            opening, closing = chat_frame(tokenizer, "backbone", "set chat_template: never")
            closing = past_thoughts(closing)
        self.slot_text = templates.answer_slot + closing
        self.separator = "" if closing else " "
        self._instruction_text = opening + templates.instruction
        self._templates = templates
        self.leading: list[int] = [] if opening else _leading_special_ids(tokenizer)
        self._head_text = self._instruction_text + (templates.summary_header if with_summary else "")
        self._head = [*self.leading, *self._encode(self._head_text)]
        self._recent_header = self._encode(templates.recent_header)
        self._candidate_header = self._encode(templates.candidate_header)
        self._slot = self._encode(self.slot_text)
        self._candidate_room = settings.max_prompt_tokens - len(self._slot) - 1  # with the prefix; 1 is the answer
        self._none = self._encode(templates.none)
        self._newline = self._encode("\n")
        self._items = self._encode_items(catalogue)
        self._prefixes: dict[int, Ids] = {}
        self._n_kept = 0  # tokens of all cached prefixes
        self._counted: set[int] = set()
        self._counting = Lock()  # a thread builds prompts ahead of training
        self._room = self._room_for_history()

    def for_items(self, texts: Sequence[str]) -> PromptBuilder:
        """Return a builder of the same prompts for other items, numbered in the given order, with counts of zero.

        Histories keep the room that the catalogue leaves them, so that a prefix is the same for all items.
        """
        other = copy(self)
        other.trims = Counter(dict.fromkeys(self.trims, 0))
        other.trimmed, other._prefixes, other._n_kept = set(), {}, 0
        other._counted, other._counting = set(), Lock()
        other._items = other._encode_items(texts)
        return other

    def digest(self) -> str:
        """Return a hash of the wording and of the item texts after cuts."""
        found = hashlib.sha256()
        fixed = (self._head, self._recent_header, self._candidate_header, self._slot, self._none, self._newline)
        for ids in (*fixed, *self._items):
            found.update(len(ids).to_bytes(4, "little") + np.asarray(ids, dtype="<i4").tobytes())
        return found.hexdigest()

    def candidate(self, item_id: int, prefix_tokens: int = 0) -> list[int]:
        """Return the ids of a candidate and of the answer slot after it.

        Args:
            item_id: the candidate.
            prefix_tokens: length of the candidate's prefix. A text that the caller wrote is cut to leave room for the
                answer; texts of the catalogue always fit.
        """
        return [*self._items[item_id][: self._candidate_room - prefix_tokens], *self._slot]

    def tokens_cut(self, item_id: int, prefix_tokens: int = 0) -> int:
        """Return the number of tokens of a candidate's text that its prompt omits."""
        over = len(self._items[item_id]) - (self._candidate_room - prefix_tokens)
        return self._items_cut.get(item_id, 0) + max(0, over)

    def candidate_text(self, item_id: int, prefix_tokens: int = 0) -> str:
        """Return the text of a candidate in its prompt, after all cuts."""
        return self._text(self._items[item_id][: self._candidate_room - prefix_tokens])

    def prefix(self, history_id: int, summary: str, history: Sequence[int]) -> Ids:
        """Return the ids of everything before the candidate, cached per history while there is room.

        Args:
            history_id: id of the history.
            summary: the history's preference summary; an empty one is shown as 'none'.
            history: item ids, oldest first.
        """
        kept = self._prefixes.get(history_id)
        if kept is not None:
            return kept
        shown = self._fit(summary, history)
        ids = np.fromiter(chain.from_iterable(self._parts(shown)), dtype=np.int32)
        with self._counting:
            if self._n_kept + len(ids) <= MOST_KEPT:
                self._prefixes[history_id] = ids
                self._n_kept += len(ids)
            if history_id not in self._counted:
                self._count(history_id, shown)
        return ids

    def state(self) -> dict[str, Any]:
        """Return the counts so far, and the histories that they cover."""
        with self._counting:
            return {"trims": dict(self.trims), "trimmed": sorted(self.trimmed), "counted": sorted(self._counted)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned: the prompts of those histories are not counted again."""
        self.trims, self.trimmed = Counter(state["trims"]), set(state["trimmed"])
        self._counted = set(state["counted"])

    def cut_items(self) -> Iterator[str]:
        """Yield a message if item texts are cut, with the option that would keep them whole."""
        if n_cut := sum(item_id > 0 for item_id in self._items_cut):  # 0 is RecBole's padding
            yield (
                f"{n_cut:,} of {len(self._items) - 1:,} item texts are cut to max_item_tokens:"
                f" {self._settings.max_item_tokens}; raise it, or name fewer item_text_fields"
            )

    def cut_prompts(self) -> Iterator[str]:
        """Yield a message for each kind of text that prompts lost so far, with the option that would keep it."""
        n_prompts, options = self.trims["prompts"], self._settings
        if self.trims["summaries_cut"]:
            yield (
                f"summaries are cut to max_summary_tokens: {options.max_summary_tokens} in"
                f" {self.trims['summaries_cut']:,} of {n_prompts:,} prompts; raise it, or lower"
                " summarizer_max_new_tokens for shorter summaries"
            )
        if self.trims["recent_items_left_out"]:
            yield (
                f"{self.trims['recent_items_left_out']:,} recent items are left out of {n_prompts:,} prompts; raise"
                f" max_prompt_tokens: {options.max_prompt_tokens}, or lower n_recent_items: {options.n_recent_items}"
            )

    def _count(self, history_id: int, shown: _History) -> None:
        self._counted.add(history_id)
        self.trims["prompts"] += 1
        self.trims["summaries_cut"] += shown.summary_cut > 0
        self.trims["recent_items_left_out"] += len(shown.items_left_out)
        if shown.summary_cut or shown.items_left_out:
            self.trimmed.add(history_id)

    def sections(self, summary: str, history: Sequence[int], item_id: int) -> list[PromptSection]:
        """Return the sections of one prompt, in order; joined, their ids equal those of ``prefix`` and ``candidate``.

        The method serves to inspect a prompt rather than to score it, so it counts nothing in ``trims``.
        """
        shown = self._fit(summary, history)
        parts = self._parts(shown)
        head, summary_ids, recent_header, recent, candidate_header = parts
        candidate = self._items[item_id][: self._candidate_room - sum(map(len, parts))]
        n_instruction = _n_shared(head, [*self.leading, *self._encode(self._instruction_text)])
        sections = [self._section("instruction", head[:n_instruction])]
        if self._with_summary:
            sections += [
                self._section("summary header", head[n_instruction:]),
                self._section("summary", summary_ids, limit=shown.summary_limit, tokens_cut=shown.summary_cut),
            ]
        return [
            *sections,
            self._section("recent header", recent_header),
            self._section(
                "recent items",
                recent,
                limit=shown.recent_limit,
                items=shown.items,
                items_left_out=shown.items_left_out,
                items_cut=self._cut_of(shown.items),
            ),
            self._section("candidate header", candidate_header),
            self._section(
                "candidate",
                candidate,
                limit=self._settings.max_item_tokens,
                tokens_cut=len(self._items[item_id]) - len(candidate),
                items=(item_id,),
                items_cut=self._cut_of((item_id,)),
            ),
            self._section("answer slot", self._slot),
        ]

    def texts(self, summary: str, recent: Sequence[str], candidate: str) -> list[str]:
        """Return the texts of a prompt that are encoded separately, in order.

        Behind the ids `leading`, their ids are those of the prompt, as long as nothing is cut and no text from outside
        contains a control token.

        Args:
            summary: the preference summary, which prompts without a summary leave out.
            recent: item texts, oldest first.
            candidate: text of the candidate.
        """
        own = self._templates
        summaries = [summary or own.none] if self._with_summary else []
        lines = [text for item in recent or [own.none] for text in (item, "\n")]
        head = [self._head_text, *summaries, own.recent_header]
        return [*head, *lines, own.candidate_header, candidate, self.slot_text]

    def _parts(self, shown: _History) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
        return self._head, shown.summary, self._recent_header, shown.recent, self._candidate_header

    def _fit(self, summary: str, history: Sequence[int]) -> _History:
        summary_ids: list[int] = []
        allowed = 0
        if self._with_summary:
            summary_ids = self._plain_text.ids([summary])[0] or self._none
            allowed = min(self._settings.max_summary_tokens, self._room)
        cut = max(0, len(summary_ids) - allowed)
        summary_ids = summary_ids[:allowed]
        room = limit = self._room - len(summary_ids)
        lines: list[list[int]] = []
        wanted = tuple(history[max(0, len(history) - self._settings.n_recent_items) :])
        for item_id in reversed(wanted):
            line = [*self._items[item_id], *self._newline]
            if len(line) > room:
                break
            room -= len(line)
            lines.append(line)
        recent = [token for line in reversed(lines) for token in line] or [*self._none, *self._newline]
        n_left_out = len(wanted) - len(lines)
        return _History(summary_ids, allowed, cut, recent, limit, wanted[n_left_out:], wanted[:n_left_out])

    def _section(self, name: str, ids: Sequence[int], **facts: Any) -> PromptSection:
        return PromptSection(name, tuple(ids), self._text(ids), **facts)

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _cut_of(self, item_ids: Sequence[int]) -> tuple[tuple[int, int], ...]:
        return tuple((i, self._items_cut[i]) for i in dict.fromkeys(item_ids) if i in self._items_cut)

    def _room_for_history(self) -> int:
        longest = max(len(ids) for ids in self._items)
        fixed = len(self._head) + len(self._recent_header) + len(self._candidate_header) + len(self._slot)
        spare = len(self._none) + len(self._newline) + 1  # 'none' in place of recent items; the answer itself
        room = self._settings.max_prompt_tokens - fixed - longest - spare
        if room < 0:
            raise UserError(
                f"max_prompt_tokens: {self._settings.max_prompt_tokens} is too small: instruction, headers and answer"
                f" slot take {fixed + spare} tokens and the longest candidate {longest}; set it to at least"
                f" {fixed + longest + spare}, preferably"
                f" {fixed + 2 * longest + spare + self._settings.max_summary_tokens}, or lower max_item_tokens"
            )
        return room

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _encode_items(self, catalogue: Sequence[str]) -> list[array[int]]:
        """Encode all items with 4 bytes per token; lists would take ten gigabytes for 500,000 long texts."""
        limit = self._settings.max_item_tokens
        self._items_cut: dict[int, int] = {}
        items: list[array[int]] = []
        for texts in groups(catalogue, _ITEMS_AT_ONCE):
            for ids in self._plain_text.ids(texts):
                if len(ids) > limit:
                    self._items_cut[len(items)] = len(ids) - limit
                items.append(array("i", ids[:limit]))
        self.trims["items_cut"] = len(self._items_cut)
        return items


def _n_shared(head: Sequence[int], instruction: Sequence[int]) -> int:
    """Count the tokens of the head that belong to the instruction; one that extends into the next header does not."""
    return next((n for n, (a, b) in enumerate(zip(head, instruction)) if a != b), min(len(head), len(instruction)))


def _leading_special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the begin-of-sequence id, if this tokenizer puts one in front of a text."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []
