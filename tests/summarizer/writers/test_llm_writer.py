from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from writing import answers, merge, update, write

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.prompt.templates import Templates, templates_for
from recbole_llmtrsr.summarizer.jobs import Job
from recbole_llmtrsr.summarizer.writers.llm_writer import LLMWriter
from recbole_llmtrsr.summarizer.writers.writing_prompts import fair_limits

SHORT = templates_for(
    "movies",
    {
        "block": "Block:\n{items}",
        "update": "Old: {summary}\nNew:\n{items}",
        "merge": "Merge:\n{summaries}",
        "retry": "",
    },
)


class EchoGenerator:
    """Counts words as tokens, remembers its prompts and answers with what it is told."""

    name = "echo"

    def __init__(self, max_prompt_tokens: int = 1000, answer: str = "answer {n}") -> None:
        self.settings = {"kind": "echo"}
        self.max_prompt_tokens = max_prompt_tokens
        self.prompts: list[str] = []
        self._answer = answer

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def trim(self, text: str, n_tokens: int) -> str:
        return " ".join(text.split()[:n_tokens])

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int
    ) -> Iterator[tuple[int, GeneratedText | GenerationFailure]]:
        for position, prompt in enumerate(prompts):
            self.prompts.append(prompt)
            text = self._answer.format(n=len(self.prompts))
            if text == "fail":
                yield position, GenerationFailure("timeout")
            else:
                counts = len(prompt.split()), len(text.split())
                yield position, GeneratedText(text, *counts, 0.5, "stop" if len(text) < 20 else "length")

    def report(self) -> dict[str, int]:
        return {"retries": 3}


def writer(room: int = 1000, answer: str = "answer {n}", templates: Templates = SHORT) -> tuple[LLMWriter, list[str]]:
    generator = EchoGenerator(room, answer)
    return LLMWriter(generator, templates, max_new_tokens=10), generator.prompts


def items(*lines: str) -> list[Item]:
    return [Item((("title", line),), line) for line in lines]


def test_the_block_prompt_in_full() -> None:
    llm, prompts = writer(templates=templates_for("movies"))
    assert write(llm, [items("title: Heat", "title: {Fargo}")]) == ["answer 1"]
    assert prompts == [
        "A user watched these movies, oldest first:\n"
        "- title: Heat\n"
        "- title: {Fargo}\n"
        "\n"
        "Describe in at most three sentences what this user likes, judging by genres, periods, themes and people."
        " Write only the description."
    ]


def test_update_and_merge_prompts_in_full() -> None:
    llm, prompts = writer()
    assert update(llm, ["likes noir"], [items("Heat", "Alien")]) == ["answer 1"]
    assert merge(llm, [["likes noir", "", "likes space"]]) == ["answer 2"]
    assert prompts == ["Old: likes noir\nNew:\n- Heat\n- Alien", "Merge:\n- likes noir\n- likes space"]


def test_both_paradigms_in_prompts(summarize_histories: Any) -> None:
    catalogue = ItemText.from_rows(["title"], {letter: [letter.upper()] for letter in "abcde"}, labels=False)
    llm, prompts = writer()
    settings = SummarySettings(summary="hierarchical", block_size=2, summarize_remainder="yes")
    assert summarize_histories({0: "abcde"}, catalogue, llm, settings).summaries == {0: "answer 4"}
    assert prompts == [
        "Block:\n- A\n- B",
        "Block:\n- C\n- D",
        "Block:\n- E",
        "Merge:\n- answer 1\n- answer 2\n- answer 3",
    ]
    llm, prompts = writer()
    settings = SummarySettings(summary="recurrent", block_size=2, summarize_remainder="yes")
    assert summarize_histories({0: "abcde"}, catalogue, llm, settings).summaries == {0: "answer 3"}
    assert prompts == ["Block:\n- A\n- B", "Old: answer 1\nNew:\n- C\n- D", "Old: answer 2\nNew:\n- E"]


def test_nothing_to_update_is_a_block_and_nothing_to_merge_is_no_prompt() -> None:
    llm, prompts = writer()
    assert update(llm, [""], [items("Heat")]) == ["answer 1"]
    assert merge(llm, [["", ""], ["likes noir", ""]]) == ["", "answer 2"]
    assert prompts == ["Block:\n- Heat", "Merge:\n- likes noir"]


def test_an_answer_becomes_one_line_with_its_tokens_time_and_end() -> None:
    llm, _ = writer(answer=" likes\n\n* noir\t and   more of it ")
    ((pair,),) = llm.run([Job("block", tuple(items("Heat")))])
    assert pair == (0, GeneratedText("likes * noir and more of it", 3, 7, 0.5, "length"))
    assert llm.report() == {
        "prompts": 1, "prompt_tokens": 3, "new_tokens": 7, "thoughts_removed": 0, "retries": 3,
        "trimmed_items": 0, "trimmed_summaries": 0, "dropped_summaries": 0,
    }  # fmt: skip


def test_a_prompt_without_an_answer_is_a_failure_with_its_reason() -> None:
    llm, _ = writer(answer="fail")
    assert list(llm.run([Job("block", tuple(items("Heat")))])) == [[(0, GenerationFailure("timeout"))]]


def test_thoughts_are_no_part_of_an_answer_and_are_counted() -> None:
    llm, _ = writer(answer="<think>They like\nkettles.</think> Kettles.")
    assert write(llm, [items("Heat")]) == ["Kettles."]
    assert llm.report()["thoughts_removed"] == 1


def test_an_answer_far_beyond_its_limit_is_cut_and_told() -> None:
    llm, _ = writer(answer="x" * 200)
    ((pair,),) = llm.run([Job("block", tuple(items("Heat")))])
    assert (pair[1].text, pair[1].finish) == ("x" * 160, "length")


def test_texts_of_one_model_are_not_those_of_another() -> None:
    one, other = EchoGenerator(), EchoGenerator()
    other.settings = {"kind": "other"}
    for kind in ("block", "update", "merge"):
        assert LLMWriter(one, SHORT, 10).settings(kind) != LLMWriter(other, SHORT, 10).settings(kind)


def test_a_second_attempt_asks_for_brevity_in_every_kind_of_prompt() -> None:
    llm, prompts = writer(templates=SHORT.with_overrides({"retry": " Briefly."}))
    block = tuple(items("Heat"))
    for job in (Job("block", block), Job("update", block, ("noir",)), Job("merge", (), ("noir", "space"))):
        answers(llm, [Job(job.kind, job.items, job.inputs, attempt=1)])
    assert prompts == [
        "Block:\n- Heat Briefly.",
        "Old: noir\nNew:\n- Heat Briefly.",
        "Merge:\n- noir\n- space Briefly.",
    ]


def test_settings_tell_wordings_limits_and_attempts_apart_and_nothing_else() -> None:
    def settings(kind: Any = "block", attempt: int = 0, limit: int = 10, **wording: str) -> Any:
        templates = SHORT.with_overrides(wording)
        return LLMWriter(EchoGenerator(), templates, limit).settings(kind, attempt)

    assert settings() == settings(merge="Other {summaries}") == settings(retry="Other")
    assert settings("merge") == settings("merge", block="Other {items}")
    assert settings("update") != settings("update", block="Other {items}")  # an update of nothing asks for the block
    assert settings() != settings(block="Other {items}")
    assert settings() != settings(limit=11)
    assert settings(attempt=1) != settings() != settings("update")
    assert settings(attempt=1) != settings(attempt=1, retry="Other")


def test_long_items_are_cut_to_one_limit_and_short_ones_stay_whole() -> None:
    # 30 tokens less 10 for the answer, 1 for the template and 3 bullets leave 16: 2, 7 and 7.
    llm, prompts = writer(room=30)
    write(llm, [items("a " * 20, "b b", "c " * 9), items("d")])
    assert prompts == [f"Block:\n- {'a ' * 6}a\n- b b\n- {'c ' * 6}c", "Block:\n- d"]
    assert llm.report()["trimmed_items"] == 2


def test_a_long_previous_summary_takes_at_most_half_of_the_room() -> None:
    # 18 tokens of room beside Old: and New: -> 9 for the summary; 9 less the bullet for the item.
    llm, prompts = writer(room=30)
    update(llm, ["s " * 30], [items("a " * 30)])
    assert prompts == [f"Old: {'s ' * 8}s\nNew:\n- {'a ' * 7}a"]
    assert llm.report()["trimmed_summaries"] == 1
    assert llm.report()["trimmed_items"] == 1


def test_a_previous_summary_that_fits_is_not_cut() -> None:
    llm, prompts = writer(room=30)
    update(llm, ["s " * 12], [items("a a")])
    assert prompts == [f"Old: {'s ' * 12}\nNew:\n- a a"]
    assert llm.report()["trimmed_summaries"] == 0


def test_a_merge_drops_the_oldest_summaries_that_do_not_fit() -> None:
    llm, prompts = writer(room=30)
    merge(llm, [["o " * 7, "p " * 7, "q " * 7, "r r"]])
    assert prompts == [f"Merge:\n- {'p ' * 7}\n- {'q ' * 7}\n- r r"]
    assert llm.report()["dropped_summaries"] == 1


def test_the_last_summary_of_a_merge_is_cut_rather_than_dropped() -> None:
    llm, prompts = writer(room=30)
    merge(llm, [["o o", "q " * 40]])
    assert prompts == [f"Merge:\n- {'q ' * 17}q"]
    assert llm.report()["dropped_summaries"] == 1
    assert llm.report()["trimmed_summaries"] == 1


@pytest.mark.parametrize("room", range(29, 60))
def test_no_prompt_exceeds_the_context_with_its_answer(room: int) -> None:
    llm, prompts = writer(room=room)
    write(llm, [items(*("x " * n for n in (1, 5, 20, 50)))])
    update(llm, ["s " * 25], [items(*("x " * n for n in (1, 30)))])
    merge(llm, [["m " * n for n in (30, 3, 20, 1)], ["m " * 90]])
    assert max(len(prompt.split()) for prompt in prompts) + 10 <= room
    assert len(prompts) == 4


def test_a_context_without_room_is_refused_at_once_and_the_remedy_helps() -> None:
    with pytest.raises(UserError, match=r"echo: .* has 10 tokens, .*lower summarizer_max_new_tokens"):
        _ = LLMWriter(EchoGenerator(20), SHORT, max_new_tokens=10).prompts
    assert LLMWriter(EchoGenerator(20), SHORT, max_new_tokens=1).prompts.budget == 19


def test_a_block_of_more_items_than_tokens_is_refused_with_a_remedy() -> None:
    llm, _ = writer(room=30)
    with pytest.raises(
        UserError,
        match=r"19 tokens for a block of 12 items, the longest of which takes 3 \('a b c'\).*lower block_size",
    ):
        write(llm, [items(*["a b"] * 11, "a b c")])
    assert write(llm, [items(*["a b"] * 6)]) == ["answer 1"]


def test_limits_use_the_whole_room() -> None:
    assert fair_limits([4, 4, 4], 100) == [4, 4, 4]
    assert fair_limits([10, 1, 10], 12) == [5, 1, 6]
    assert fair_limits([3, 3], -1) == [0, 0]
