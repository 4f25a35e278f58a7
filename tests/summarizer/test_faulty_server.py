"""The whole engine over a server that fails in every way: each history ends with a summary or a counted fallback."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from faulty_server import FaultyHandler, serving

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.llm.generators import server_requests
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.writers.make_writer import make_writer

pytest.importorskip("openai", reason="needs the extra 'server'")

FAULTS = (
    "fine", "fine", "fine", "429", "500", "503", "garbage", "nothing", "half", "never", "400", "empty", "always 500",
)  # fmt: skip
ITEMS = [f"{letter}{n}" for letter in "abcdefgh" for n in range(4)]
CATALOGUE = ItemText.from_rows(["title"], {item: [item] for item in ITEMS}, labels=False)


class Handler(FaultyHandler):
    """Decides by a hash of the prompt how it fails at the first attempt; some prompts never get an answer."""

    def answer(self, prompt: str, attempt: int, request: dict[str, Any]) -> None:
        fault = fault_of(prompt)
        if fault in ("never", "400", "always 500") or (attempt == 1 and fault not in ("fine", "empty")):
            self.fail(fault.removeprefix("always "))
            return
        self.server.stopped.wait(random.uniform(0, 0.01))
        text = "" if fault == "empty" else text_of(prompt)
        self.reply(200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})


def fault_of(prompt: str) -> str:
    return FAULTS[hashlib.sha256(prompt.encode()).digest()[0] % len(FAULTS)]


def text_of(prompt: str) -> str:
    return f"Summary {hashlib.sha256(prompt.encode()).hexdigest()[:12]}."


def content(store: SummaryStore) -> list[tuple[bytes, str]]:
    return [(entry.key, entry.answer.text) for entry in store.records(store.keys())]


@pytest.mark.slow
def test_every_history_ends_with_a_summary_or_a_counted_fallback_in_whatever_order_answers_come(
    summarize_histories: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_requests, "FIRST_DELAY", 0.001)
    wording = {"block": "{items}", "update": "{summary}\n{items}", "merge": "{summaries}", "retry": ""}
    histories = summarize_histories.prefixes(ITEMS, CATALOGUE)
    stores, runs = [], []
    for concurrency in (16, 7):
        with serving(Handler) as server, SummaryStore(tmp_path / f"{concurrency}.sqlite") as store:
            settings = SummarySettings(
                summarizer=f"openai:tiny@{server.url}",
                block_size=2,
                summarize_remainder="yes",
                summarizer_max_new_tokens=20,
                summarizer_concurrency=concurrency,
                summarizer_timeout=2.0,
                summarizer_retries=1,
            )
            templates = templates_for("movies", wording)
            writer = make_writer(settings, CATALOGUE, templates, device="cpu", dtype=None)  # type: ignore[arg-type]
            runs.append(summarize_histories(histories, CATALOGUE, writer, settings, store))
            stores.append(content(store))
        # Each prompt was asked once, and once more where that could help.
        again = {"429", "500", "503", "garbage", "nothing", "half", "never", "always 500"}
        assert server.attempts == {prompt: 1 + (fault_of(prompt) in again) for prompt in server.attempts}
        faults = Counter(map(fault_of, server.attempts))
        assert set(faults) == set(FAULTS)  # all of them happened
        report = runs[-1].report
        assert report["failures"] == {
            "timeout": faults["never"], "status 400": faults["400"], "status 500": faults["always 500"]
        }  # fmt: skip
        assert report["replaced"] == sum(report["failures"].values()) + faults["empty"]
        assert report["faults"] == {"empty": faults["empty"]}
        assert report["made"] + sum(report["failures"].values()) == sum(faults.values())
        assert report["calls"] == report["made"] + sum(report["failures"].values()) + report["equal"] + report["found"]

    assert runs[0].summaries == runs[1].summaries
    assert stores[0] == stores[1]
    assert len({key for key, _ in stores[0]}) == len(stores[0]) == runs[0].report["made"]
    assert [n for n, text in runs[0].summaries.items() if not text] == [0]  # the history without items
    answered = {text_of(prompt) for prompt in server.attempts} | {""}
    assert {text for _, text in stores[0]} <= answered
