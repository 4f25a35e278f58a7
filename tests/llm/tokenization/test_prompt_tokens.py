"""Where thoughts begin and end in the answers of a model whose tokenizer is at hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tiny_llama import byte_level

from recbole_llmtrsr.llm.tokenization.prompt_tokens import PromptTokens
from recbole_llmtrsr.llm.tokenization.thoughts import without_thoughts

FRAME = "{% for m in messages %}<user>{{ m.content }}<bot>{% endfor %}"


def prompt_tokens(opening: str = "", special: tuple[str, ...] = ()) -> PromptTokens:
    """A tokenizer of bytes, with a chat template that ends with some text."""
    special = ("<pause>", *special)
    tokenizer = byte_level(additional_special_tokens=list(special), chat_template=FRAME + opening)
    config: Any = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=200))
    return PromptTokens(config, tokenizer, "tiny")


def said(tokens: PromptTokens, answer: str) -> str:
    return tokens.text(tokens.tokenizer(answer, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
@pytest.mark.parametrize("opening", ["<think>\n", "<think>"])
def test_an_answer_without_the_end_of_thoughts_that_the_template_opens_is_none(
    special: tuple[str, ...], opening: str
) -> None:
    tokens = prompt_tokens(opening, special)
    assert without_thoughts(said(tokens, "Okay, so I need to")) == ("", True)
    assert without_thoughts(said(tokens, "Okay.</think>\n\nLikes lamps.<end>")) == ("Likes lamps.", True)


@pytest.mark.parametrize("opening", ["", "<think>\n\n</think>\n\n"])
def test_where_the_template_opens_no_thoughts_an_answer_is_as_it_was_written(opening: str) -> None:
    assert said(prompt_tokens(opening, ("<think>", "</think>")), "Likes<pause> lamps.<end>") == "Likes lamps."
    assert said(prompt_tokens(opening), "Likes<pause> lamps.<end>") == "Likes lamps."


@pytest.mark.parametrize(
    ("special", "answer"),
    [
        (("<think>", "</think>"), "<think>Hm.</think>Likes lamps.<pause><end>"),
        (("[THINK]", "[/THINK]"), "[THINK]Hm.[/THINK]Likes lamps.<end>"),
        (
            ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"),
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>bot<|channel|>final<|message|>Likes lamps.<|return|>",
        ),
    ],
)
def test_special_tokens_that_mark_thoughts_are_seen(special: tuple[str, ...], answer: str) -> None:
    assert without_thoughts(said(prompt_tokens(special=special), answer)) == ("Likes lamps.", True)


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
def test_thinking_is_switched_off_where_the_template_has_a_switch(switch: str) -> None:
    tokens = prompt_tokens("{% if " + switch + " is not defined or " + switch + " %}<think>{% endif %}")
    assert said(tokens, "Likes lamps.") == "Likes lamps."
