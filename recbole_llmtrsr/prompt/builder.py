"""PromptBuilder makes all prompts within the token budget, and counts what it trims.

A prompt is made of token sections, each encoded on its own and then joined::

    [instruction][summary][recent items][candidate header] | [candidate][answer slot]
     ---------------- prefix, one per history ------------   -- one per candidate --

So the prefix has the same ids for all candidates, and plain and shared-prefix scoring read the same ids. Never cut:
the instruction, the headers, the candidate (an item text is one text everywhere, of at most ``max_item_tokens``) and
the answer slot. What does not fit is taken from the oldest recent items, and from the end of the summary.
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
MOST_KEPT = 2**28  # tokens of prefixes, 1 GiB; those of further histories are made at each call


@dataclass(frozen=True, slots=True)
class PromptSection:
    """One section of a prompt, as the model reads it.

    Attributes:
        name: 'instruction', 'summary header', 'summary', 'recent header', 'recent items', 'candidate header',
            'candidate' or 'answer slot'.
        ids: its tokens.
        text: its tokens as text.
        limit: most tokens it may take; None where nothing is ever cut.
        tokens_cut: tokens that were cut from the end of a summary, or of a candidate given by hand.
        items: the recent items or the candidate that it shows.
        items_left_out: recent items that it has no room for, oldest first.
        items_cut: tokens that were cut from the ends of its items, by item id.
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
    """Makes prefix and candidate ids for one tokenizer, one wording and one catalogue.

    Args:
        tokenizer: a transformers tokenizer.
        templates: the wording.
        settings: budgets and answers.
        catalogue: text of every item, by item id; one line each.
        with_summary: whether prompts have a summary section at all.

    Attributes:
        slot_text: the text right before the answer, for deriving the answers' token ids.
        separator: what stands between ``slot_text`` and an answer.
        trims: counts of what was cut: items, summaries, and recent items that were left out.
        trimmed: ids of the histories whose summary or recent items were.

    Raises:
        UserError: ``max_prompt_tokens`` cannot hold what is never cut.

    Source:
        the order of the paper's prompt. Deviation: the authors cut prompts at the right, through the
        candidate and the answer slot.
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
        self._leading = [] if opening else _leading_special_ids(tokenizer)
        head = self._instruction_text + (templates.summary_header if with_summary else "")
        self._head = [*self._leading, *self._encode(head)]
        self._recent_header = self._encode(templates.recent_header)
        self._candidate_header = self._encode(templates.candidate_header)
        self._slot = self._encode(self.slot_text)
        self._candidate_room = settings.max_prompt_tokens - len(self._slot) - 1  # with the prefix; 1 is the answer
        self._none = self._encode(templates.none)
        self._newline = self._encode("\n")
        self._items = self._encode_items(catalogue)
        self._prefixes: dict[int, Ids] = {}
        self._n_kept = 0  # tokens of all of them
        self._counted: set[int] = set()
        self._counting = Lock()  # prompts are made on a thread ahead of training
        self._room = self._room_for_history()

    def for_items(self, texts: Sequence[str]) -> PromptBuilder:
        """A builder of the same prompts about other items, numbered as they are given; it has made none.

        The room of a history stays what the catalogue left it, so that a prefix is the same for all items.
        """
        other = copy(self)
        other.trims = Counter(dict.fromkeys(self.trims, 0))
        other.trimmed, other._prefixes, other._n_kept = set(), {}, 0
        other._counted, other._counting = set(), Lock()
        other._items = other._encode_items(texts)
        return other

    def digest(self) -> str:
        """A hash of the wording and the item texts, as far as prompts show them."""
        found = hashlib.sha256()
        fixed = (self._head, self._recent_header, self._candidate_header, self._slot, self._none, self._newline)
        for ids in (*fixed, *self._items):
            found.update(len(ids).to_bytes(4, "little") + np.asarray(ids, dtype="<i4").tobytes())
        return found.hexdigest()

    def candidate(self, item_id: int, prefix_tokens: int = 0) -> list[int]:
        """Ids of a candidate and the answer slot behind it.

        Args:
            item_id: the candidate.
            prefix_tokens: length of its prefix. A text given by hand is cut to leave room for the answer; those of the
                catalogue always fit.
        """
        return [*self._items[item_id][: self._candidate_room - prefix_tokens], *self._slot]

    def tokens_cut(self, item_id: int, prefix_tokens: int = 0) -> int:
        """Tokens of a candidate's text that its prompt does not show."""
        over = len(self._items[item_id]) - (self._candidate_room - prefix_tokens)
        return self._items_cut.get(item_id, 0) + max(0, over)

    def candidate_text(self, item_id: int, prefix_tokens: int = 0) -> str:
        """The text of a candidate as its prompt shows it, after all cuts."""
        return self._text(self._items[item_id][: self._candidate_room - prefix_tokens])

    def prefix(self, history_id: int, summary: str, history: Sequence[int]) -> Ids:
        """Ids of everything before the candidate; made once per history and kept while there is room.

        Args:
            history_id: of the history.
            summary: its preference summary; empty writes 'none'.
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
        """The counts so far, and the histories that they cover."""
        with self._counting:
            return {"trims": dict(self.trims), "trimmed": sorted(self.trimmed), "counted": sorted(self._counted)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned: the prompts of those histories are not counted again."""
        self.trims, self.trimmed = Counter(state["trims"]), set(state["trimmed"])
        self._counted = set(state["counted"])

    def cut_items(self) -> Iterator[str]:
        """A message if item texts are cut, with the option that would keep them whole."""
        if n_cut := sum(item_id > 0 for item_id in self._items_cut):  # 0 is RecBole's padding
            yield (
                f"{n_cut:,} of {len(self._items) - 1:,} item texts are cut to max_item_tokens:"
                f" {self._settings.max_item_tokens}; raise it, or name fewer item_text_fields"
            )

    def cut_prompts(self) -> Iterator[str]:
        """A message for each kind of text that the prompts so far lost, with the option that would keep it."""
        n_prompts, options = self.trims["prompts"], self._settings
        if self.trims["summaries_cut"]:
            yield (
                f"{self.trims['summaries_cut']:,} of {n_prompts:,} prompts cut their summary to max_summary_tokens:"
                f" {options.max_summary_tokens}; raise it, or have shorter ones written (summarizer_max_new_tokens)"
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
        """The sections of one prompt, in order; their ids joined are those of ``prefix`` and ``candidate``.

        Nothing is counted in ``trims``: this is for looking at a prompt, not for scoring it.
        """
        shown = self._fit(summary, history)
        parts = self._parts(shown)
        head, summary_ids, recent_header, recent, candidate_header = parts
        candidate = self._items[item_id][: self._candidate_room - sum(map(len, parts))]
        n_instruction = _n_shared(head, [*self._leading, *self._encode(self._instruction_text)])
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
                f" {fixed + longest + spare}, better {fixed + 2 * longest + spare + self._settings.max_summary_tokens},"
                " or lower max_item_tokens"
            )
        return room

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _encode_items(self, catalogue: Sequence[str]) -> list[array[int]]:
        """Ids of all items, 4 bytes a token: lists of a catalogue of 500,000 long texts would take ten gigabytes."""
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
    """Tokens of the head that are the instruction's; one that reaches into the summary header is the header's."""
    return next((n for n, (a, b) in enumerate(zip(head, instruction)) if a != b), min(len(head), len(instruction)))


def _leading_special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The begin-of-sequence id, when this tokenizer sets one in front of a text."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []
