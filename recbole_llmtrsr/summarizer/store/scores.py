"""Scores by a server in a summary store: rows of the kind 'score', whose text holds the log-probabilities as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.llm.generators.server_scores import AnswerLogprobs
from recbole_llmtrsr.summarizer.keys import canonical, digest
from recbole_llmtrsr.summarizer.store.rows import SCORE, Record
from recbole_llmtrsr.summarizer.store.store import SummaryStore

_FIELDS = ("yes", "no", "least", "first")


class StoredScores:
    """The scores of one scorer in a store.

    Args:
        store: the store.
        name: the scorer's name.
        settings: everything that determines its scores but the prompt.
    """

    def __init__(self, store: SummaryStore, name: str, settings: Mapping[str, object]) -> None:
        self._store = store
        self._settings = canonical(settings)
        self._writer_id = store.writer_id(name, settings)

    def find(self, prompts: Sequence[str]) -> dict[str, AnswerLogprobs]:
        """The stored log-probabilities of these prompts, by prompt."""
        keys = {self._key(prompt): prompt for prompt in prompts}
        return {keys[key]: _read(answer) for key, answer in self._store.find(list(keys)).items()}

    def put(self, prompt: str, found: AnswerLogprobs) -> AnswerLogprobs:
        """Store the log-probabilities of a prompt; return those of another run that stored some first, or these."""
        text = json.dumps({name: getattr(found, name) for name in _FIELDS})
        answer = GeneratedText(text, found.prompt_tokens, 1, found.seconds)
        (held,) = self._store.put(self._writer_id, [Record(self._key(prompt), SCORE, answer, ())]).values()
        return _read(held)

    def _key(self, prompt: str) -> bytes:
        return digest(json.dumps([SCORE, self._settings, prompt]))


def _read(answer: GeneratedText) -> AnswerLogprobs:
    return AnswerLogprobs(**json.loads(answer.text), prompt_tokens=answer.prompt_tokens, seconds=answer.seconds)


def is_score(text: str) -> bool:
    """Whether a text holds log-probabilities as `StoredScores` writes them."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    if not isinstance(found, dict) or set(found) != {*_FIELDS} or not isinstance(found["first"], str):
        return False
    numbers = [found["least"], *(found[name] for name in ("yes", "no") if found[name] is not None)]
    return all(type(one) in (int, float) and math.isfinite(one) for one in numbers)


@contextmanager
def stored_scores(path: Path | None, name: str, settings: Mapping[str, object]) -> Iterator[StoredScores]:
    """The scores of a scorer in the store of a file, in memory without one; raises as `SummaryStore`."""
    with SummaryStore(path) as store:
        yield StoredScores(store, name, settings)
