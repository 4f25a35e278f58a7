"""HTML in texts, as the product pages of shops have it: entities and tags become what a reader of the page sees."""

from __future__ import annotations

import html
import re

_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
# Within a word or before a comma these leave no gap, unlike a paragraph or a line break.
_INLINE = re.compile(r"</?(?:a|b|big|em|font|i|small|span|strong|sub|sup|u)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)


def without_markup(text: str) -> str:
    """Text without tags, comments and scripts, its entities as characters.

    Tags go first and entities are read once, so that a spelled-out tag, ``&lt;b&gt;``, stays as text.

    >>> without_markup("a &amp; <b>b</b>, c<br/>d &lt;b&gt; <3 1 < 2 > 0 AT&T")
    'a & b, c d <b> <3 1 < 2 > 0 AT&T'
    """
    if "<" in text:
        text = _TAG.sub(" ", _INLINE.sub("", _UNSEEN.sub(" ", text)))
    return html.unescape(text) if "&" in text else text
