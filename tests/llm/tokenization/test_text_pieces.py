"""The tokenizer in place of a server's: joined tokens are the joined text, and their number bounds its bytes."""

from __future__ import annotations

import pytest

from recbole_llmtrsr.config.options import PromptSettings
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText
from recbole_llmtrsr.llm.tokenization.text_pieces import TextPieces
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import templates_for

PIECES = TextPieces()
TEXTS = ["", "a", "Heat (1995)", "Café 😀 naïve", "\0\0x", "<|im_end|> </s>", "日本語のテキスト"]


def ids(text: str) -> list[int]:
    return list(PIECES(text)["input_ids"])


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_from_its_ids(text: str) -> None:
    assert PIECES.decode(ids(text)) == text
    assert len(ids(text)) == -(-len(text.encode()) // 3)
    assert all(0 < i < 2**31 for i in ids(text))  # prompts hold them in 32 bits


def test_joined_ids_are_joined_texts() -> None:
    assert PIECES.decode([i for text in TEXTS for i in ids(text)]) == "".join(TEXTS)


def test_a_character_that_is_cut_is_left_out() -> None:
    assert PIECES.decode(ids("ab😀c")[:1]) == "ab"
    assert PIECES.decode([*ids("ab😀c")[:1], *ids("\nd")]) == "ab\nd"


def test_a_lone_surrogate_is_replaced() -> None:
    assert PIECES.decode(ids("a\ud800b")) == "a?b"


def test_several_texts_are_read_at_once_and_nothing_is_a_control_token() -> None:
    assert PIECES(TEXTS)["input_ids"] == [ids(text) for text in TEXTS]
    assert PlainText(PIECES).ids(TEXTS) == [ids(text) for text in TEXTS]


def test_a_prompt_of_pieces_is_the_text_of_its_sections() -> None:
    settings = PromptSettings(max_prompt_tokens=400, max_item_tokens=4)
    catalogue = ["", "Heat", "A long title that is cut"]
    builder = PromptBuilder(PIECES, templates_for("movies"), settings, catalogue, with_summary=True)
    text = PIECES.decode([*builder.prefix(0, "Likes noir.", [1, 2]), *builder.candidate(2)])
    templates = templates_for("movies")
    assert text == (
        f"{templates.instruction}{templates.summary_header}Likes noir.{templates.recent_header}Heat\nA long title\n"
        f"{templates.candidate_header}A long title{templates.answer_slot}"
    )
    assert builder.separator == " "
