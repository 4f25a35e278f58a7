from __future__ import annotations

from collections.abc import Sequence

import pytest

from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generation import Generation
from recbole_llmtrsr.prompt.templates import Templates, templates_for
from recbole_llmtrsr.settings import SummarySettings
from recbole_llmtrsr.summarizer import summarize
from recbole_llmtrsr.summarizer.llm_writer import LLMWriter, fair_limits

SHORT = templates_for(
    "movies", {"block": "Block:\n{items}", "update": "Old: {summary}\nNew:\n{items}", "merge": "Merge:\n{summaries}"}
)


class EchoGenerator:
    """Counts words as tokens, remembers its prompts and answers with what it is told."""

    name = "echo"

    def __init__(self, max_prompt_tokens: int = 1000, answer: str = "answer {n}") -> None:
        self.max_prompt_tokens = max_prompt_tokens
        self.prompts: list[str] = []
        self._answer = answer

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def trim(self, text: str, n_tokens: int) -> str:
        return " ".join(text.split()[:n_tokens])

    def generate(self, prompts: Sequence[str], max_new_tokens: int) -> list[Generation]:
        generations = []
        for prompt in prompts:
            self.prompts.append(prompt)
            text = self._answer.format(n=len(self.prompts))
            generations.append(Generation(text, len(prompt.split()), len(text.split()), len(text) < 20))
        return generations


def writer(room: int = 1000, answer: str = "answer {n}", templates: Templates = SHORT) -> tuple[LLMWriter, list[str]]:
    generator = EchoGenerator(room, answer)
    return LLMWriter(generator, templates, max_new_tokens=10), generator.prompts


def items(*lines: str) -> list[Item]:
    return [Item((("title", line),), line) for line in lines]


def test_the_block_prompt_in_full() -> None:
    llm, prompts = writer(templates=templates_for("movies"))
    assert llm.write([items("title: Heat", "title: {Fargo}")]) == ["answer 1"]
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
    assert llm.update(["likes noir"], [items("Heat", "Alien")]) == ["answer 1"]
    assert llm.merge([["likes noir", "", "likes space"]]) == ["answer 2"]
    assert prompts == ["Old: likes noir\nNew:\n- Heat\n- Alien", "Merge:\n- likes noir\n- likes space"]


def test_both_paradigms_in_prompts() -> None:
    catalogue = ItemText.from_rows(["title"], {letter: [letter.upper()] for letter in "abcde"}, labels=False)
    llm, prompts = writer()
    settings = SummarySettings(summary="hierarchical", block_size=2)
    assert summarize({0: "abcde"}, catalogue, llm, settings).summaries == {0: "answer 4"}
    assert prompts == [
        "Block:\n- A\n- B",
        "Block:\n- C\n- D",
        "Block:\n- E",
        "Merge:\n- answer 1\n- answer 2\n- answer 3",
    ]
    llm, prompts = writer()
    settings = SummarySettings(summary="recurrent", block_size=2)
    assert summarize({0: "abcde"}, catalogue, llm, settings).summaries == {0: "answer 3"}
    assert prompts == ["Block:\n- A\n- B", "Old: answer 1\nNew:\n- C\n- D", "Old: answer 2\nNew:\n- E"]


def test_nothing_to_update_is_a_block_and_nothing_to_merge_is_no_prompt() -> None:
    llm, prompts = writer()
    assert llm.update([""], [items("Heat")]) == ["answer 1"]
    assert llm.merge([["", ""], ["likes noir", ""]]) == ["", "answer 2"]
    assert prompts == ["Block:\n- Heat", "Merge:\n- likes noir"]


def test_an_answer_becomes_one_line_and_tokens_are_counted() -> None:
    llm, _ = writer(answer=" likes\n\n* noir\t and   more of it ")
    assert llm.write([items("Heat")]) == ["likes * noir and more of it"]
    report = llm.report()
    assert (report["prompts"], report["prompt_tokens"], report["new_tokens"], report["unfinished"]) == (1, 3, 7, 1)


def test_an_empty_answer_is_counted() -> None:
    llm, _ = writer(answer=" \n")
    assert llm.write([items("Heat")]) == [""]
    assert llm.report()["empty"] == 1


def test_long_items_are_cut_to_one_limit_and_short_ones_stay_whole() -> None:
    # 30 tokens less 10 for the answer, 1 for the template and 3 bullets leave 16: 2, 7 and 7.
    llm, prompts = writer(room=30)
    llm.write([items("a " * 20, "b b", "c " * 9), items("d")])
    assert prompts == [f"Block:\n- {'a ' * 6}a\n- b b\n- {'c ' * 6}c", "Block:\n- d"]
    assert llm.report()["trimmed_items"] == 2


def test_a_long_previous_summary_takes_at_most_half_of_the_room() -> None:
    # 18 tokens of room beside Old: and New: -> 9 for the summary; 9 less the bullet for the item.
    llm, prompts = writer(room=30)
    llm.update(["s " * 30], [items("a " * 30)])
    assert prompts == [f"Old: {'s ' * 8}s\nNew:\n- {'a ' * 7}a"]
    assert llm.report()["trimmed_summaries"] == 1
    assert llm.report()["trimmed_items"] == 1


def test_a_previous_summary_that_fits_is_not_cut() -> None:
    llm, prompts = writer(room=30)
    llm.update(["s " * 12], [items("a a")])
    assert prompts == [f"Old: {'s ' * 12}\nNew:\n- a a"]
    assert llm.report()["trimmed_summaries"] == 0


def test_a_merge_drops_the_oldest_summaries_that_do_not_fit() -> None:
    llm, prompts = writer(room=30)
    llm.merge([["o " * 7, "p " * 7, "q " * 7, "r r"]])
    assert prompts == [f"Merge:\n- {'p ' * 7}\n- {'q ' * 7}\n- r r"]
    assert llm.report()["dropped_summaries"] == 1


def test_the_last_summary_of_a_merge_is_cut_rather_than_dropped() -> None:
    llm, prompts = writer(room=30)
    llm.merge([["o o", "q " * 40]])
    assert prompts == [f"Merge:\n- {'q ' * 17}q"]
    assert llm.report()["dropped_summaries"] == 1
    assert llm.report()["trimmed_summaries"] == 1


@pytest.mark.parametrize("room", range(29, 60))
def test_no_prompt_exceeds_the_context_with_its_answer(room: int) -> None:
    llm, prompts = writer(room=room)
    llm.write([items(*("x " * n for n in (1, 5, 20, 50)))])
    llm.update(["s " * 25], [items(*("x " * n for n in (1, 30)))])
    llm.merge([["m " * n for n in (30, 3, 20, 1)], ["m " * 90]])
    assert max(len(prompt.split()) for prompt in prompts) + 10 <= room
    assert len(prompts) == 4


def test_a_context_without_room_is_refused_at_once_and_the_remedy_helps() -> None:
    with pytest.raises(UserError, match=r"echo takes 20 tokens.*lower summarizer_max_new_tokens"):
        LLMWriter(EchoGenerator(20), SHORT, max_new_tokens=10)
    LLMWriter(EchoGenerator(20), SHORT, max_new_tokens=1)


def test_a_block_of_more_items_than_tokens_is_refused_with_a_remedy() -> None:
    llm, _ = writer(room=30)
    with pytest.raises(UserError, match="a block of 12 items: lower block_size"):
        llm.write([items(*["a b"] * 12)])
    assert llm.write([items(*["a b"] * 6)]) == ["answer 1"]


def test_limits_use_the_whole_room() -> None:
    assert fair_limits([4, 4, 4], 100) == [4, 4, 4]
    assert fair_limits([10, 1, 10], 12) == [5, 1, 6]
    assert fair_limits([3, 3], -1) == [0, 0]
