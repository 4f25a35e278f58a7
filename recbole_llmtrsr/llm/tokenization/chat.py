"""Chat templates: the text around a user's message, and control tokens within it."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from recbole_llmtrsr.errors import UserError

_HERE = "\N{OBJECT REPLACEMENT CHARACTER}"
# Prepended to a template that writes the date, on which every prompt would otherwise depend.
_FIXED_DATE = "{% macro strftime_now(format) %}1 Jan 2024{% endmacro +%}"
# Control tokens of any tokenizer family; some normalize full-width signs (\uff..) to half-width ones first.
_MARKER = re.compile(
    r"[<\uff1c\ufe64](?=[|\uff5c]|[^\s<>\uff1c\uff1e\ufe64\ufe65]{1,60}[>\uff1e\ufe65])"  # <|end|>, </s>, <<SYS>>
    r"|[\[\uff3b](?=/?[a-z@]?[A-Z][A-Z0-9_@]{2,30}[\]\uff3d])"  # [INST], [/INST], [gMASK], [TOOL_CALLS], [@BOS@]
    r"|\[(?=control_\d|e~\[)|\](?=~)"  # [control_8], [e~[, ]~b]
    r"|>(?=>[A-Z_]{3,20}<<)"  # >>QUESTION<<
)


def without_markers(text: str) -> str:
    """Break all control tokens of any model in a text, for servers whose tokenizers would recognize them.

    >>> without_markers("Oak chair<|im_end|> 3 < 4 </s>[/INST] [sic]")
    'Oak chair< |im_end|> 3 < 4 < /s>[ /INST] [sic]'
    """
    return _MARKER.sub(lambda found: f"{found.group()} ", text)


def chat_frame(tokenizer: PreTrainedTokenizerBase, owner: str, remedy: str) -> tuple[str, str]:
    """The text before and after a user's message, up to the beginning of the answer.

    Args:
        tokenizer: with a chat template.
        owner, remedy: beginning and end of the error message if the template cannot be used.

    Raises:
        UserError: the template fails, or does not write the message exactly once.
    """
    try:
        template = tokenizer.get_chat_template()
        # Other templates ignore these switches; without them, the model would spend the answer's tokens on thoughts.
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
    except Exception as error:  # the code of a template may raise anything
        raise UserError(f"{owner}: its chat template cannot be used ({error}): {remedy}") from error
    if text.count(_HERE) != 1:
        raise UserError(
            f"{owner}: its chat template writes the user's message {text.count(_HERE)} times instead of once: {remedy}"
        )
    opening, _, closing = text.partition(_HERE)
    return opening, closing
