"""HTML in texts of product pages: entities and tags become what a reader of the page sees."""

from __future__ import annotations

import html
import re

# No expression here reads beyond the next tag, so that each takes time linear in the text.
_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>|<(!)--", re.IGNORECASE)
_CLOSERS = {
    "script": re.compile(r"</script\s*>", re.IGNORECASE),
    "style": re.compile(r"</style\s*>", re.IGNORECASE),
    "!": re.compile("-->"),
}
# These leave no gap within a word or before a comma, unlike a paragraph or a line break.
_INLINE = re.compile(r"</?(?:a|b|big|em|font|i|small|span|strong|sub|sup|u)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
_ENDLESS = re.compile(r"&#[0-9]{100,};?")  # Python refuses to read numbers of thousands of digits.


def without_markup(text: str) -> str:
    """Text without tags, comments and scripts, its entities as characters.

    Tags go first and entities are read once, so that a spelled-out tag, ``&lt;b&gt;``, stays as text.

    >>> without_markup("a &amp; <b>b</b>, c<br/>d &lt;b&gt; <3 1 < 2 > 0 AT&T")
    'a & b, c d <b> <3 1 < 2 > 0 AT&T'
    """
    if "<" in text:
        text = _TAG.sub(" ", _INLINE.sub("", _without_unseen(text)))
    return html.unescape(_ENDLESS.sub("\ufffd", text)) if "&" in text else text


def _without_unseen(text: str) -> str:
    """Scripts, styles and comments as one space each; those that are never closed stay."""
    parts: list[str] = []
    start = place = 0
    unclosed: set[str] = set()
    while opener := _UNSEEN.search(text, place):
        kind, place = (opener[1] or opener[2]).lower(), opener.end()
        # If one is not closed, none behind it is: the rest of the text is searched once for each kind.
        closer = None if kind in unclosed else _CLOSERS[kind].search(text, place)
        if closer:
            parts.append(text[start : opener.start()])
            start = place = closer.end()
        else:
            unclosed.add(kind)
    return " ".join([*parts, text[start:]])
