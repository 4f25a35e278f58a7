from __future__ import annotations

import pytest

from recbole_llmtrsr.llm.thoughts import without_thoughts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>Hm.</think>\n\nKettles", ("Kettles", True)),
        ("Hm.</think>Kettles", ("Kettles", True)),
        ("<think>Hm", ("", True)),
        ("Kettles <b>", ("Kettles <b>", False)),
        ("", ("", False)),
    ],
)
def test_thoughts_end_before_the_answer(text: str, expected: tuple[str, bool]) -> None:
    assert without_thoughts(text) == expected
