"""What reasoning models write before their answer, and the marks that tell the two apart."""

from __future__ import annotations

import re

# What opens thoughts, and what ends them.
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
# What may stand around the answer behind thoughts.
_FRAME = re.compile(
    r"<\|return\|>|<\|end\|>|</?answer>|</?response>|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>"
)
# Of a server that takes the special tokens of Harmony away, so that the channels' names stick to the text.
_BARE_HARMONY = re.compile(
    r"\s*(?:analysis(?=[A-Z\"'])(?:.*assistantfinal|.*)|(?:assistant)?final(?=[A-Z\"']))", re.DOTALL
)


def without_thoughts(text: str) -> tuple[str, bool]:
    """An answer without the thoughts that lead to it, and whether there were any.

    Some chat templates open the thoughts themselves, so that only their end is in the answer; in an answer that was cut
    off, only their beginning may be, and no answer is left.

    >>> without_thoughts("<think>They like kettles.</think> Kettles.")
    ('Kettles.', True)
    >>> without_thoughts("They like kettles.</think> Kettles.")
    ('Kettles.', True)
    >>> without_thoughts("<think>They like")
    ('', True)
    >>> without_thoughts(" Kettles.")
    (' Kettles.', False)
    """
    if bare := _BARE_HARMONY.match(text):
        return text[bare.end() :].strip(), True
    if not _MARK.search(text):
        return text, False
    return _FRAME.sub("", _split(text)[0]).strip(), True


def opened_thoughts(frame: str) -> str:
    """The mark with which a chat template opens the thoughts itself, at the end of what it writes; '' if it does not.

    >>> opened_thoughts("<|assistant|><think>"), opened_thoughts("<|assistant|><think></think>")
    ('<think>', '')
    """
    return _split(frame)[1]


def is_part_of_mark(token: str) -> bool:
    """Whether a special token tells thoughts from the answer."""
    return any(token in mark for pair in _MARKS.items() for mark in pair)


def _split(text: str) -> tuple[str, str]:
    """What is no thought, and the mark of thoughts that do not end."""
    kept: list[str] = []
    opened, position = "", 0
    for found in _MARK.finditer(text):
        mark = found.group()
        if not opened and mark in _MARKS:
            kept.append(text[position : found.start()])
            opened = mark
        elif mark == _MARKS.get(opened) or (not opened and mark in _ENDS):
            if not opened:  # all that stands before it was thought
                kept.clear()
            opened, position = "", found.end()
    return "".join(kept) + ("" if opened else text[position:]), opened
