"""What a chat template writes around a user's message, and what in a message could be taken for it."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.tokenization.thoughts import closed_thoughts

_HERE = "\N{OBJECT REPLACEMENT CHARACTER}"
# Stands before a template that tells the date, which would make every prompt depend on the day on which it is made.
_FIXED_DATE = "{% macro strftime_now(format) %}1 Jan 2024{% endmacro +%}"
# As tokenizers of any family write control tokens; some make signs of full width (\uff..) half wide before they look.
_MARKER = re.compile(
    r"[<\uff1c\ufe64](?=[|\uff5c]|[^\s<>\uff1c\uff1e\ufe64\ufe65]{1,60}[>\uff1e\ufe65])"  # <|end|>, </s>, <<SYS>>
    r"|[\[\uff3b](?=/?[a-z@]?[A-Z][A-Z0-9_@]{2,30}[\]\uff3d])"  # [INST], [/INST], [gMASK], [TOOL_CALLS], [@BOS@]
    r"|\[(?=control_\d|e~\[)|\](?=~)"  # [control_8], [e~[, ]~b]
    r"|>(?=>[A-Z_]{3,20}<<)"  # >>QUESTION<<
)


def without_markers(text: str) -> str:
    """Text in which nothing reads like a control token of any model, for servers that would take it for one.

    >>> without_markers("Oak chair<|im_end|> 3 < 4 </s>[/INST] [sic]")
    'Oak chair< |im_end|> 3 < 4 < /s>[ /INST] [sic]'
    """
    return _MARKER.sub(lambda found: f"{found.group()} ", text)


def past_thoughts(closing: str) -> str:
    """What stands after the message, up to where the answer begins and not the thoughts before it.

    Models that always think have templates that open their thoughts whatever `enable_thinking` says; the token that
    comes next is then the first thought.

    >>> past_thoughts("<|Assistant|><think>\\n")
    '<|Assistant|><think>\\n\\n</think>\\n\\n'
    """
    if closing.endswith("<|start|>assistant"):  # gpt-oss, whose answers name their channel first
        return f"{closing}<|channel|>final<|message|>"
    return closed_thoughts(closing)


def chat_frame(tokenizer: PreTrainedTokenizerBase, owner: str, remedy: str) -> tuple[str, str]:
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
