from __future__ import annotations

import time

import pytest

from recbole_llmtrsr.llm.tokenization.thoughts import is_part_of_mark, opened_thoughts, without_thoughts

PAIRS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("Here is my thought process:", "Here is my response:"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>commentary<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(("begin", "end"), PAIRS)
def test_thoughts_end_before_the_answer(begin: str, end: str) -> None:
    assert without_thoughts(f"{begin}\nHm.{end}\n\nKettles") == ("Kettles", True)
    assert without_thoughts(f"Hm.{end}Kettles") == ("Kettles", True)  # a template opened them
    assert without_thoughts(f" {begin}Hm, they like kettles") == ("", True)  # cut off
    assert without_thoughts(f"{begin}Hm.{end}") == ("", True)
    assert without_thoughts(f"{begin}Hm.{end}Kettles{begin}More.{end}.") == ("Kettles.", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Kettles <b>", ("Kettles <b>", False)),
        ("", ("", False)),
        ("<think>Hm.</think><answer>Kettles</answer>", ("Kettles", True)),
        ("<|channel|>final<|message|>Kettles<|return|>", ("Kettles", True)),
        ("analysisWe need to write.assistantfinalKettles", ("Kettles", True)),  # special tokens taken away
        ("analysisWe need to", ("analysisWe need to", False)),  # or a name: 'thinks' finds it where it was cut off
        ('analysis"x" and more', ('analysis"x" and more', False)),
        ("finalFantasy games", ("finalFantasy games", False)),
        (
            "The user likes 'How to <think> in code' and others.",
            ("The user likes 'How to <think> in code' and others.", False),
        ),
        ("<think>Hm.</think>Books on <think> tags.", ("Books on <think> tags.", True)),
        ("<|start|>assistant<|channel|>analysis<|message|>They", ("", True)),
        ("assistantfinalKettles", ("Kettles", True)),
        ("analysis of kettles", ("analysis of kettles", False)),
        ("Finally, kettles", ("Finally, kettles", False)),
    ],
)
def test_further_forms_of_thoughts_and_texts_without_any(text: str, expected: tuple[str, bool]) -> None:
    assert without_thoughts(text) == expected


def test_a_server_that_writes_nothing_but_marks_takes_linear_time() -> None:
    start = time.perf_counter()
    assert without_thoughts("<think>" * 200_000) == ("", True)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("begin", [begin for begin, _ in PAIRS[:11]])
def test_a_frame_that_ends_with_opened_thoughts_is_known(begin: str) -> None:
    assert opened_thoughts(f"<|assistant|>{begin}\n") == begin.strip()
    assert opened_thoughts(f"<|assistant|>{begin}\n\n{dict(PAIRS)[begin]}\n\n") == ""


def test_special_tokens_of_marks_are_told_from_others() -> None:
    marks = ("<think>", "</think>", "[THINK]", "<|channel|>", "<|message|>", "<channel|>", "<|END_THINKING|>")
    assert [is_part_of_mark(token) for token in marks] == [True] * len(marks)
    assert [is_part_of_mark(token) for token in ("<|end|>", "</s>", "<|im_end|>", "<pad>")] == [False] * 4
