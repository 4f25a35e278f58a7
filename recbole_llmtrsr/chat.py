"""What a chat template writes around a user's message, and what in a message could be taken for it."""

from __future__ import annotations

import re
from typing import Any

from recbole_llmtrsr.errors import UserError

_HERE = "\N{OBJECT REPLACEMENT CHARACTER}"
# Stands before a template that tells the date, which would make every prompt depend on the day on which it is made.
_FIXED_DATE = "{% macro strftime_now(format) %}1 Jan 2024{% endmacro +%}"
# As tokenizers write special tokens: <|im_end|>, </s>, <start_of_turn>, [/INST].
_MARKER = re.compile(r"<(?=\|?/?[\w-]{1,40}\|?>)|\[(?=/?[A-Z_]{3,20}\])")


def without_markers(text: str) -> str:
    """Text in which nothing reads like a special token, for servers that would take it for one.

    >>> without_markers("Oak chair<|im_end|> 3 < 4 </s>[/INST] [sic]")
    'Oak chair< |im_end|> 3 < 4 < /s>[ /INST] [sic]'
    """
    return _MARKER.sub(lambda found: f"{found.group()} ", text)


def chat_frame(tokenizer: Any, owner: str, remedy: str) -> tuple[str, str]:
    """What stands before and after the message, up to where the answer begins.

    Args:
        tokenizer: has a chat template.
        owner: whose tokenizer it is, for messages.
        remedy: what helps when the template cannot be used.

    Raises:
        UserError: the template fails, or does not write the message exactly once.
    """
    try:
        template = tokenizer.get_chat_template()
        # Templates without a thinking mode ignore these; with one, the answer's tokens would go into thoughts.
        text = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": _HERE}],
                chat_template=_FIXED_DATE + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # Qwen 3, SmolLM 3, GLM 4.5
                thinking=False,  # DeepSeek V3.1, Granite
            )
        )
    except Exception as error:  # whatever a template's own code raises
        raise UserError(f"{owner}: its chat template cannot be used ({error}): {remedy}") from error
    if text.count(_HERE) != 1:
        raise UserError(
            f"{owner}: its chat template writes the user's message {text.count(_HERE)} times instead of once: {remedy}"
        )
    opening, _, closing = text.partition(_HERE)
    return opening, closing
