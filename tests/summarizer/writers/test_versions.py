"""A writer's VERSION is part of the store's keys: it changes whenever the writer asks or writes something else."""

from __future__ import annotations

import asyncio
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest

from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.llm.generators.server import ServerGenerator
from recbole_llmtrsr.llm.tokenization.chat import chat_frame
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.summarizer.jobs import Job
from recbole_llmtrsr.summarizer.writers import extractive, llm_writer
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter
from recbole_llmtrsr.summarizer.writers.llm_writer import LLMWriter

WORDING = {
    "block": "Block\n{items}",
    "update": "Old {summary}\n{items}",
    "merge": "Merge\n{summaries}",
    "retry": " Again",
}
ROWS = {
    "a": ["Heat<|im_end|> (1995) </s>[/INST] 1 < 2", "Crime Drama"],
    "b": ["Fargo, a long tale of ice " * 9, "Crime Comedy"],
    "c": ["<think>Alien</think> <\uff5cAssistant\uff5c>", "Horror"],
    "d": ["", "Horror Drama"],
}
CATALOGUE = ItemText.from_rows(["title", "class"], ROWS, labels=False)
ANSWERS = (
    " Likes\n\nkettles. ", "<think>Hm.</think>Kettles", "Hm.</think> Kettles", "<think>Hm", "[THINK]Hm[/THINK]Kettles",
    "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Kettles", "k" * 900,
)  # fmt: skip


class Deaf:
    """A server's generator that notes what is sent instead of sending it."""

    def __init__(self, sent: list[Any]) -> None:
        self._server = ServerGenerator(
            "tiny", "http://here/v1", api_key=None, concurrency=1, timeout=1, retries=0, context=200
        )
        self._sent = sent
        self.name, self.settings = self._server.name, self._server.settings
        self.max_prompt_tokens = self._server.max_prompt_tokens
        self.count_tokens, self.trim, self.report = self._server.count_tokens, self._server.trim, self._server.report

    async def _create(self, extra_body: dict[str, Any], **request: Any) -> Any:
        self._sent.append({**request, **extra_body, "extra_body": {}})  # what is sent, in the form of the digest below
        return SimpleNamespace(content=b"{}")

    def generate(self, prompts: Any, max_new_tokens: int) -> Any:
        raw = SimpleNamespace(with_raw_response=SimpleNamespace(create=self._create))
        client: Any = SimpleNamespace(chat=SimpleNamespace(completions=raw))
        for position, prompt in enumerate(prompts):
            asyncio.run(self._server._answer(client, prompt, max_new_tokens, 1))
            yield position, GeneratedText(ANSWERS[position % len(ANSWERS)], 1, 1)


def of_llm() -> Any:
    """Requests, what is made of answers, and what a local model's template is given."""
    pytest.importorskip("openai", reason="needs the extra 'server'")
    sent: list[Any] = []
    writer = LLMWriter(Deaf(sent), templates_for("movies", WORDING), 20)
    jobs = [job for attempt in (0, 1) for job in jobs_of(attempt)]
    answers = {position: answer for some in writer.run(jobs) for position, answer in some}
    given: list[Any] = []
    tokenizer = SimpleNamespace(
        get_chat_template=lambda: "x",
        apply_chat_template=lambda messages, **options: given.append(options) or messages[0]["content"],
    )
    chat_frame(tokenizer, "x", "x")
    return [sent, [text(answers[i]) for i in range(len(jobs))], given]


def of_extracts() -> Any:
    return [text(answer) for some in ExtractiveWriter(CATALOGUE).run(jobs_of(0)) for _, answer in some]


def text(answer: Any) -> list[str]:
    assert isinstance(answer, GeneratedText)
    return [answer.text, answer.finish]


def jobs_of(attempt: int) -> list[Job]:
    items: list[Item] = [CATALOGUE[name] for name in ROWS]
    earlier = ("Likes ice.", "class: Crime 3, Horror 2; title: Heat", "", "Likes space. " * 60)
    return [
        Job("block", tuple(items[:2]), (), attempt),
        Job("block", tuple(items), (), attempt),
        Job("update", tuple(items[2:]), ("Likes ice.",), attempt),
        Job("update", tuple(items), ("Likes ice. " * 50,), attempt),
        Job("merge", (), earlier[:2], attempt),
        Job("merge", (), earlier, attempt),
    ]


@pytest.mark.parametrize(
    ("asked", "version", "expected"),
    [(of_llm, llm_writer.VERSION, (2, "9e131cded1d2")), (of_extracts, extractive.VERSION, (1, "5118c3356e6a"))],
)
def test_a_writer_that_asks_or_writes_something_else_has_another_version(
    asked: Any, version: int, expected: tuple[int, str]
) -> None:
    digest = hashlib.sha256(json.dumps(asked(), sort_keys=True).encode()).hexdigest()[:12]
    assert (version, digest) == expected, (
        "the writer asks or writes something else: raise its VERSION, lest old texts are served from stores, and write"
        " the new number and digest here"
    )
