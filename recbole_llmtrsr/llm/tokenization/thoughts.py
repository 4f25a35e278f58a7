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
    r"<\|return\|>|<\|end\|>|<\|start\|>assistant|</?answer>|</?response>"
    r"|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>"
)
# Of a server that takes the special tokens of Harmony away, so that the channels' names stick to the text. Only both
# words together tell so: "finalFantasy" and "analysisX" are names.
_BARE_HARMONY = re.compile(r"\s*(?:analysis(?=[A-Z\"']).*)?assistantfinal(?=[A-Z\"'])", re.DOTALL)


def without_thoughts(text: str) -> tuple[str, bool]:
    """An answer without the thoughts that lead to it, and whether there were any.

    Some chat templates open the thoughts themselves, so that only their end is in the answer; in an answer that was cut
    off, only their beginning may be, and no answer is left. A mark that stands in the middle of an answer and opens
    nothing that ends is text.

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
    """The mark with which a chat template opens the thoughts itself, at the end of what it writes; '' if it does not.

    >>> opened_thoughts("<|assistant|><think>"), opened_thoughts("<|assistant|><think></think>")
    ('<think>', '')
    """
    frame = frame.rstrip()
    return next((mark for mark in _MARKS if frame.endswith(mark)), "")


def closed_thoughts(frame: str) -> str:
    """What a chat template writes, and behind it the end of the thoughts that it opens, if it does.

    >>> closed_thoughts("<|assistant|><think>\\n")
    '<|assistant|><think>\\n\\n</think>\\n\\n'
    """
    mark = opened_thoughts(frame)
    return f"{frame.rstrip()}\n\n{_MARKS[mark]}\n\n" if mark else frame


def is_part_of_mark(token: str) -> bool:
    """Whether a special token tells thoughts from the answer."""
    return any(token in mark for pair in _MARKS.items() for mark in pair)


def _split(text: str) -> tuple[str, str]:
    """What is no thought, and what begins with a mark whose thoughts do not end."""
    kept: list[str] = []
    opened, position = "", 0  # where what is no thought begins, or the mark that opened thoughts stands
    for found in _MARK.finditer(text):
        mark = found.group()
        if not opened and mark in _MARKS:
            kept.append(text[position : found.start()])
            opened, position = mark, found.start()
        elif mark == _MARKS.get(opened) or (not opened and mark in _ENDS):
            if not opened:  # all that stands before it was thought
                kept.clear()
            opened, position = "", found.end()
    if not opened:
        kept.append(text[position:])
    return "".join(kept), text[position:] if opened else ""
