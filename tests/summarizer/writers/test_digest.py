from __future__ import annotations

import random

import pytest

from recbole_llmtrsr.summarizer.writers.digest import Digest, format_digest, label, parse_digest, term, title

NASTY = [
    "a", "Co.", "Inc.,", ";", "; ", ",", ", ", " | ", "|", ":", ": ", " ", "7", "12,", "3;", "title", "class",
    "é", "新闻",
]  # fmt: skip


def nasty(generator: random.Random) -> str:
    return "".join(generator.choices(NASTY, k=generator.randrange(1, 9)))


@pytest.mark.parametrize("seed", range(300))
def test_cleaned_terms_and_titles_come_back_as_they_were_written(seed: int) -> None:
    generator = random.Random(seed)
    terms = {clean: generator.randrange(1, 1000) for _ in range(4) if (clean := term(nasty(generator)))}
    titles = tuple(clean for _ in range(3) if (clean := title(nasty(generator))))
    digest = Digest({label("class: a; b"): terms} if terms else {}, titles)
    text = format_digest(digest, "title")
    assert parse_digest(text, [label("class: a; b")], "title") == digest
    assert "\n" not in text


@pytest.mark.parametrize("seed", range(300))
def test_any_text_is_read_without_a_crash_and_settles_after_one_pass(seed: int) -> None:
    text = nasty(random.Random(seed)) + nasty(random.Random(-seed - 1))
    once = format_digest(parse_digest(text, ["class"], "title"), "title")
    assert format_digest(parse_digest(once, ["class"], "title"), "title") == once


def test_a_count_too_long_for_a_number_is_text() -> None:
    text = f"class: Drama {'9' * 5000}"
    assert parse_digest(text, ["class"], "title").counts == {}


def test_a_note_is_cut_to_forty_words() -> None:
    assert parse_digest("so " * 100, ["class"], "title").note == " ".join(["so"] * 40)
