from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from recbole_llmtrsr.chat import chat_frame
from recbole_llmtrsr.errors import UserError


def tokenizer(template: str) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=template)


def test_the_frame_is_what_stands_around_the_message_up_to_the_answer() -> None:
    template = "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[bot]"
    assert chat_frame(tokenizer(template + "{% endif %}"), "backbone", "remedy") == ("<s>[user]", "[bot]")


def test_a_template_that_tells_the_date_gives_the_same_frame_every_day() -> None:
    frame = chat_frame(tokenizer("{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"), "backbone", "remedy")
    assert frame == ("1 Jan 2024: ", "")


def test_thinking_is_turned_off() -> None:
    template = "{{ messages[0].content }}{% if enable_thinking %}<think>{% endif %}"
    assert chat_frame(tokenizer(template), "backbone", "remedy") == ("", "")


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("hello", "summarizer 'x': its chat template writes the user's message 0 times instead of once: do this"),
        ("{{ messages[0].content * 2 }}", "2 times instead of once: do this"),
        ("{{ raise_exception('no system') }}", r"cannot be used \(no system\): do this"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_its_remedy(template: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        chat_frame(tokenizer(template), "summarizer 'x'", "do this")
