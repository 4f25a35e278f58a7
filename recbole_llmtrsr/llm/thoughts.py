"""What reasoning models write before their answer."""

from __future__ import annotations


def without_thoughts(text: str) -> tuple[str, bool]:
    """An answer without the thoughts that lead to it, and whether there were any.

    Some chat templates open the thoughts themselves, so that only their end is in the answer; in an answer that was cut
    off, only their beginning may be.

    >>> without_thoughts("<think>They like kettles.</think> Kettles.")
    ('Kettles.', True)
    >>> without_thoughts("They like kettles.</think> Kettles.")
    ('Kettles.', True)
    >>> without_thoughts("<think>They like")
    ('', True)
    >>> without_thoughts(" Kettles.")
    (' Kettles.', False)
    """
    _, end, answer = text.partition("</think>")
    if end:
        return answer.lstrip(), True
    return ("", True) if text.lstrip().startswith("<think>") else (text, False)
