from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.llm.generators.generation import GeneratedText, MeasuredSpeed
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.summarizer.cost import Cost
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.writers.llm_writer import LLMWriter

CATALOGUE = ItemText.from_rows(["title"], {letter: [letter.upper()] for letter in "abcdefgh"}, labels=False)
SETTINGS = SummarySettings(
    summary="hierarchical", block_size=2, summarize_remainder="yes", summarizer_max_new_tokens=10
)
WORDING = {"block": "Block of items:\n{items}", "merge": "Merge:\n{summaries}", "retry": ""}


class WordGenerator:
    """Counts words as tokens and answers with four of them."""

    name = "words"
    max_prompt_tokens = 1000

    def __init__(self, speed: MeasuredSpeed | None) -> None:
        self.settings = {"kind": "words"}
        self.speed, self.measured = speed, list[tuple[Sequence[str], int, int]]()

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def trim(self, text: str, n_tokens: int) -> str:
        return " ".join(text.split()[:n_tokens])

    def measure(self, prompts: Sequence[str], n_prompts: int, max_new_tokens: int) -> MeasuredSpeed | None:
        self.measured.append((prompts, n_prompts, max_new_tokens))
        return self.speed

    def generate(self, prompts: Sequence[str], max_new_tokens: int) -> Any:
        for position, prompt in enumerate(prompts):
            read = self.count_tokens(prompt)
            yield position, GeneratedText("likes this and that", read, 4, 0.1 * (read + 5 * 4))

    def report(self) -> dict[str, int]:
        return {}


@pytest.fixture
def store() -> Any:
    with SummaryStore(None) as opened:
        yield opened


def writer(speed: MeasuredSpeed | None = None) -> tuple[LLMWriter, WordGenerator]:
    generator = WordGenerator(speed)
    return LLMWriter(generator, templates_for("movies", WORDING), 10), generator


def test_a_local_model_is_measured_with_some_prompts_and_reading_counts(
    summarize_histories: Any, store: SummaryStore
) -> None:
    llm, generator = writer(MeasuredSpeed(0.5, 2.0, 3.0))
    cost = summarize_histories({0: "abcdef", 1: "ghab"}, CATALOGUE, llm, SETTINGS, store, dry=True)
    assert cost.needed == {"block": 4, "update": 0, "merge": 2}
    ((prompts, n_prompts, limit),) = generator.measured
    assert (list(prompts[0].splitlines()), len(prompts)) == (["Block of items:", "- A", "- B"], 4)
    assert (n_prompts, limit) == (3, 10)  # six calls in two waves
    # A block has the wording, of which {items} is a word, and two lines; a merge reads three or two answers of three.
    assert cost.prompt_tokens == 4 * (4 + 4) + (2 + 9) + (2 + 6)
    assert (cost.new_tokens, cost.max_new_tokens) == (6 * 3, 60)
    assert cost.seconds == pytest.approx(0.5 * cost.prompt_tokens + 2.0 * cost.new_tokens)
    assert cost.text().endswith("(at 2.0 prompt and 0.5 new tokens/s, measured just now)")
    assert llm.report()["prompts"] == 0


def test_a_server_is_not_measured_and_the_text_says_what_is_assumed(
    summarize_histories: Any, store: SummaryStore
) -> None:
    llm, _ = writer(None)
    cost = summarize_histories({0: "abcdef"}, CATALOGUE, llm, SETTINGS, store, dry=True)
    assert cost.seconds == pytest.approx(cost.prompt_tokens / 2000 + 40 / 100)
    assert cost.text().endswith(
        "(at an assumed 2,000 prompt and 100 new tokens/s; no call of this writer was timed yet)"
    )


def test_by_stored_calls_a_longer_prompt_takes_longer(summarize_histories: Any, store: SummaryStore) -> None:
    llm, generator = writer()
    summarize_histories({0: "abcd"}, CATALOGUE, llm, SETTINGS, store)
    short, long = (
        summarize_histories({0: history}, CATALOGUE, llm, SETTINGS, store, dry=True) for history in ("ef", "efgh")
    )
    assert generator.measured == []
    assert short.seconds == pytest.approx(0.1 * (short.prompt_tokens + 5 * 4), rel=0.2)
    assert long.seconds == pytest.approx(0.1 * (long.prompt_tokens + 5 * 12), rel=0.2)
    assert long.text().endswith("(by the writer's calls in the store)")


def test_nothing_is_measured_if_no_call_is_needed(summarize_histories: Any, store: SummaryStore) -> None:
    llm, generator = writer(MeasuredSpeed(0.5, 2.0, 3.0))
    summarize_histories({0: "abcd"}, CATALOGUE, llm, SETTINGS, store)
    assert summarize_histories({0: "abcd"}, CATALOGUE, llm, SETTINGS, store, dry=True).seconds == 0
    assert generator.measured == []


def test_the_time_of_a_writer_without_prompts_is_unknown_before_its_first_call() -> None:
    cost = Cost(1, 1, needed={"block": 1, "update": 0, "merge": 0})
    assert cost.text().splitlines()[-1] == "calls to make    1 (1 block)"
