"""HTML in texts: what is taken for it, and what a reader sees instead."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.data.prepare.atomic import is_number
from recbole_llmtrsr.data.prepare.converters.amazon_m2 import _LIST
from recbole_llmtrsr.data.prepare.converters.table import seconds
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
        ("<script>1<script>2</script>3<style>4", " 3 4"),
        ("<style><script>1</style>2<!--3<!--4-->5</script>6", " 2 5 6"),
        ("a<!-->b", "a<!-->b"),
        ("&#" + "9" * 5000 + ";&#x110000;&#0065;", "\ufffd\ufffdA"),
    ],
)
def test_a_reader_sees_neither_tags_nor_entities(text: str, seen: str) -> None:
    assert without_markup(text) == seen


@pytest.mark.parametrize("text", ["AT&T, Q&A & so on", "I <3 it", "1 < 2 > 0", "a <b and more", "</", "&nosuch;", "<>"])
def test_signs_that_are_no_markup_stay(text: str) -> None:
    assert without_markup(text) == text


@pytest.mark.parametrize(
    ("read", "unit", "end"),
    [
        *((without_markup, unit, "") for unit in ("<script>", "<script", "<!--", "<", "<b", "</script ", "&", "&#1")),
        *((without_markup, unit, "</script>") for unit in ("<style>", "<!--<script>", "<script></script >")),
        *((is_number, "1", end) for end in ("x", "e", ".x")),
        (seconds, "1", "."),
        (one_line, " \x00", "x"),
        *((_LIST.fullmatch, f"[{unit}", "x") for unit in ("'a' ", "''", "'", " ")),
    ],
)
def test_a_text_takes_time_in_proportion_to_its_length(read: Callable[[str], object], unit: str, end: str) -> None:
    def took(n: int) -> float:
        text, times = unit * n + end, []
        for _ in range(5):
            start = time.process_time()
            read(text)
            times.append(time.process_time() - start)
        return min(times)

    # Eight times as long takes 8 times as long, or 64 times where every piece is compared with every other.
    assert took(16_000) < 32 * took(2_000) + 0.002
