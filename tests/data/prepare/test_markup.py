"""HTML in texts: what is taken for it, and what a reader sees instead."""

from __future__ import annotations

import pytest

from recbole_llmtrsr.data.prepare.markup import without_markup


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Salt &amp; Pepper &#39;n&#x27; more", "Salt & Pepper 'n' more"),
        ("&amp;amp;", "&amp;"),
        ("&lt;b&gt; is a tag", "<b> is a tag"),
        ("H<sub>2</sub>O, <A HREF='x'>link</A>.", "H2O, link."),
        ("one<br />two<li>three", "one two three"),
        ("<script type='x'>if (a < b) {}</script>a<!-- <p> -->b<STYLE>p {}</STYLE >c", " a b c"),
        ("a <script>b", "a  b"),
    ],
)
def test_a_reader_sees_neither_tags_nor_entities(text: str, seen: str) -> None:
    assert without_markup(text) == seen


@pytest.mark.parametrize("text", ["AT&T, Q&A & so on", "I <3 it", "1 < 2 > 0", "a <b and more", "</", "&nosuch;", "<>"])
def test_signs_that_are_no_markup_stay(text: str) -> None:
    assert without_markup(text) == text
