"""Scores of prompts by a model behind a server, from a store where it has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from logging import getLogger
from typing import Protocol

import torch
from torch import Tensor

from recbole_llmtrsr.engine.rows import GroupedPrompts, TokenIds
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.server_scores import AnswerLogprobs, ServerScores
from recbole_llmtrsr.llm.tokenization.text_pieces import TextPieces

_ENOUGH = 8  # prompts after which it is judged whether the server states the answers at all
_SHOWN = 5


class ScoreStore(Protocol):
    """Keeps log-probabilities of answers by prompt."""

    def find(self, prompts: Sequence[str]) -> Mapping[str, AnswerLogprobs]:
        """The stored ones of these prompts, by prompt."""

    def put(self, prompt: str, found: AnswerLogprobs) -> AnswerLogprobs:
        """Store those of a prompt, and return those that the store now has."""


class ServedScorer:
    """Scores prompts of `TextPieces` with a server; equal prompts are sent once.

    Args:
        server: sends the prompts.
        tokenizer: that of the prompts.

    Attributes:
        name: 'openai:<model>'.
        tokenizer: as given.
        settings: everything that determines a score but the prompt, as JSON values.
        store: where scores are looked for and kept; None keeps none.
        tokens_read: number of tokens that the server has read for this scorer.
    """

    def __init__(self, server: ServerScores, tokenizer: TextPieces) -> None:
        self.store: ScoreStore | None = None
        self.tokens_read = 0
        self.name, self.settings, self.tokenizer = server.name, server.settings, tokenizer
        self._server = server
        self._counts: Counter[str] = Counter(prompts=0, from_store=0, one_answer_missing=0, both_answers_missing=0)
        self._first: Counter[str] = Counter()  # most likely tokens of prompts without an answer among them

    def scores(self, prompts: GroupedPrompts) -> Tensor:
        """Compute the log-odds of all candidates of every history.

        Returns:
            Scores, float32 [B, C]; -inf in slots without a candidate.

        Raises:
            UserError: the server cannot be used, or answers neither yes nor no to most prompts.
        """
        texts = [self._texts(*one) for one in zip(prompts.prefixes, prompts.candidates, strict=True)]
        found = self._found(list(dict.fromkeys(text for own in texts for text in own)))
        table = torch.full((len(prompts), int(prompts.counts.max())), float("-inf"))
        for row, own in zip(table, texts):
            row[: len(own)] = torch.tensor([found[text] for text in own])
        return table

    def report(self) -> dict[str, object]:
        """Counts of distinct prompts of every batch, of answers that the server did not state, and of requests."""
        counts = dict(self._counts)
        if n_lost := counts["both_answers_missing"]:
            yes, no = self._server.answers
            getLogger().warning(
                f"scorer '{self.name}' has neither {yes!r} nor {no!r} among the most likely first tokens of its answers"
                f" to {n_lost} of {counts['prompts']} prompts: they score 0, as if both were equally likely"
            )
        return {"name": self.name, **counts, "prompt_tokens": self.tokens_read, **self._server.report()}

    def _texts(self, prefix: TokenIds, candidates: Sequence[TokenIds]) -> list[str]:
        begin = self.tokenizer.decode(prefix)
        return [begin + self.tokenizer.decode(candidate) for candidate in candidates]

    def _found(self, texts: list[str]) -> dict[str, float]:
        """Scores by prompt."""
        stored = {} if self.store is None else self.store.find(texts)
        self._counts["from_store"] += len(stored)
        scores = {text: self._counted(found) for text, found in stored.items()}
        missing = [text for text in texts if text not in stored]
        with closing(self._server.scores(missing)) as answers:
            for position, found in answers:
                self.tokens_read += found.prompt_tokens
                # A bound among fewer tokens is that of a server's present limit, which the settings do not hold.
                if self.store is not None and not (found.n_missing and self._server.is_limited):
                    found = self.store.put(missing[position], found)
                scores[missing[position]] = self._counted(found)
        self._check_answers(1)
        return scores

    def _counted(self, found: AnswerLogprobs) -> float:
        self._counts["prompts"] += 1
        if found.n_missing:
            self._counts["both_answers_missing" if found.n_missing == 2 else "one_answer_missing"] += 1
        if found.n_missing == 2:
            self._first[found.first] += 1
            self._check_answers(_ENOUGH)
        return found.log_odds

    def _check_answers(self, enough: int) -> None:
        n, n_lost = self._counts["prompts"], self._counts["both_answers_missing"]
        if n < enough or 2 * n_lost <= n:
            return
        said = ", ".join(f"{token!r} ({times})" for token, times in self._first.most_common(_SHOWN))
        yes, no = self._server.answers
        raise UserError(
            f"scorer '{self.name}' has neither {yes!r} nor {no!r} among the most likely first tokens of its"
            f" answers to {n_lost} of {n} prompts, so they cannot be ranked; its answers begin with {said}: set answers"
            " to words that it says, such as answers: [Yes, No]; if it thinks first, turn that off with"
            " scorer_request: {chat_template_kwargs: {enable_thinking: false}}; if it is not tuned for chats, set"
            " chat_template: never"
        )
