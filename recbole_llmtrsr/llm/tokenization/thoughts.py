"""The thoughts of reasoning models, and the marks that separate them from the answer."""

from __future__ import annotations

import re

# Opening mark of thoughts -> closing mark.
_MARKS = {
    "<think>": "</think>",  # DeepSeek R1, Qwen 3, GLM, SmolLM 3 and most others
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
    "<|begin_of_thought|>": "<|end_of_thought|>",  # Sky-T1, OpenThinker
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<|channel>thought": "<channel|>",  # Gemma
    "Here is my thought process:": "Here is my response:",  # Granite 3.2
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",  # gpt-oss: the channels of its Harmony format
    "<|channel|>commentary<|message|>": "<|channel|>final<|message|>",
}
_ENDS = frozenset(_MARKS.values())
_MARK = re.compile("|".join(map(re.escape, (*_MARKS, *sorted(_ENDS)))))
# Marks around the answer that follows thoughts.
_FRAME = re.compile(
    r"<\|return\|>|<\|end\|>|<\|start\|>assistant|</?answer>|</?response>"
    r"|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>"
)
# The channel names that remain if a server strips the special tokens of Harmony. One word alone would be ambiguous:
# "finalFantasy" and "analysisX" are names.
_BARE_HARMONY = re.compile(r"\s*(?:analysis(?=[A-Z\"']).*)?assistantfinal(?=[A-Z\"'])", re.DOTALL)


def without_thoughts(text: str) -> tuple[str, bool]:
    """Remove the thoughts before an answer, and return whether there were any.

    If the chat template opens the thoughts, the answer contains only their end; if the answer was cut off, perhaps only
    their beginning, and nothing remains. A mark in the middle of an answer without a closing mark is text.

    >>> without_thoughts("<think>They like kettles.</think> Kettles.")
    ('Kettles.', True)
    >>> without_thoughts("They like kettles.</think> Kettles.")
    ('Kettles.', True)
    >>> without_thoughts("<think>They like")
    ('', True)
    >>> without_thoughts(" Kettles.")
    (' Kettles.', False)
    >>> without_thoughts("They like books on <think> in code.")
    ('They like books on <think> in code.', False)
    """
    if bare := _BARE_HARMONY.match(text):
        return text[bare.end() :].strip(), True
    kept, unclosed = _split(text)
    answer = _FRAME.sub("", kept).strip()
    if answer:
        kept += unclosed
        answer = _FRAME.sub("", kept).strip()
    return (text, False) if kept == text else (answer, True)


def opened_thoughts(frame: str) -> str:
    """The mark of thoughts with which the text of a chat template ends; '' if it opens none.

    >>> opened_thoughts("<|assistant|><think>"), opened_thoughts("<|assistant|><think></think>")
    ('<think>', '')
    """
    frame = frame.rstrip()
    return next((mark for mark in _MARKS if frame.endswith(mark)), "")


def past_thoughts(closing: str) -> str:
    """The text of a chat template from the message to the beginning of the answer, with its thoughts closed.

    Templates of models that always think open the thoughts whatever `enable_thinking` says; the next token would then
    begin a thought.

    >>> past_thoughts("<|Assistant|><think>\\n")
    '<|Assistant|><think>\\n\\n</think>\\n\\n'
    """
    if closing.endswith("<|start|>assistant"):  # gpt-oss, whose answers name their channel first
        return f"{closing}<|channel|>final<|message|>"
    mark = opened_thoughts(closing)
    return f"{closing.rstrip()}\n\n{_MARKS[mark]}\n\n" if mark else closing


def is_part_of_mark(token: str) -> bool:
    """Whether a special token is part of a mark of thoughts."""
    return any(token in mark for pair in _MARKS.items() for mark in pair)


def _split(text: str) -> tuple[str, str]:
    """The text outside of thoughts, and the text from an opening mark that is never closed."""
    kept: list[str] = []
    opened, position = "", 0  # the open mark and its position, or where text outside of thoughts begins
    for found in _MARK.finditer(text):
        mark = found.group()
        if not opened and mark in _MARKS:
            kept.append(text[position : found.start()])
            opened, position = mark, found.start()
        elif mark == _MARKS.get(opened) or (not opened and mark in _ENDS):
            if not opened:  # all text before it was thought
                kept.clear()
            opened, position = "", found.end()
    if not opened:
        kept.append(text[position:])
    return "".join(kept), text[position:] if opened else ""
