from __future__ import annotations

import random
from typing import Any

import pytest
from writing import merge, update, write

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.summarizer.jobs import Job
from recbole_llmtrsr.summarizer.planning.make_plan import PARADIGMS
from recbole_llmtrsr.summarizer.writers.catalogue import column_kind
from recbole_llmtrsr.summarizer.writers.digest import parse_digest
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter

MOVIES = ItemText.from_rows(
    ["title", "year", "genres", "language"],
    {
        "1": ["Alien", "1979", "Horror Sci-Fi", "en"],
        "2": ["Aliens", "1986", "Action Horror Sci-Fi", "en"],
        "3": ["Heat", "1995", "Action Crime", "en"],
        "4": ["Fargo", "1996", "Comedy Crime", "en"],
        "5": ["Clerks", "1994", "Comedy", "en"],
        "6": ["Contact", "1997", "Drama Sci-Fi", "en"],
        "7": ["Usual Suspects, The", "1995", "Crime Drama", "en"],
        "8": ["Scream; Part | One", "1996", "Horror", "en"],
        "9": ["Sling Blade", "", "Drama", "en"],
    },
)
PRODUCTS = ItemText.from_rows(
    ["name"],
    {
        "1": ["red running shoe 42"],
        "2": ["blue running shoe"],
        "3": ["red wool hat"],
        "4": ["green wool scarf"],
        "5": ["the kettle"],
    },
)


def items(tokens: str, catalogue: ItemText = MOVIES) -> list[Item]:
    return [catalogue[token] for token in tokens]


def test_a_block_is_counted_and_its_typical_titles_are_quoted_oldest_first() -> None:
    # Aliens shares three genres with others, Heat and Fargo two and the decade, Alien two genres and Clerks one.
    assert write(ExtractiveWriter(MOVIES), [items("12345")]) == [
        "year: 1990s 3, 1980s 1, 1970s 1; genres: Comedy 2, Crime 2, Action 2, Horror 2, Sci-Fi 2;"
        " title: Aliens | Heat | Fargo"
    ]


def test_all_nine_items_in_a_merge_add_up() -> None:
    writer = ExtractiveWriter(MOVIES)
    merged = merge(writer, [write(writer, [items("12345"), items("6789")])])
    assert merged == [
        "year: 1990s 6, 1980s 1, 1970s 1; genres: Drama 3, Horror 3, Crime 3, Sci-Fi 3, Comedy 2, Action 2;"
        " title: Fargo | Contact | Usual Suspects, The"
    ]


def test_an_update_gives_the_same_counts_as_a_merge() -> None:
    writer = ExtractiveWriter(MOVIES)
    blocks = write(writer, [items("12345"), items("6789")])
    assert update(writer, blocks[:1], [items("6789")]) == merge(writer, [blocks])


def test_up_to_three_titles_are_all_quoted_and_separators_in_them_are_replaced() -> None:
    assert write(ExtractiveWriter(MOVIES), [items("87"), items("8")]) == [
        "year: 1990s 2; genres: Crime 1, Drama 1, Horror 1; title: Scream, Part / One | Usual Suspects, The",
        "year: 1990s 1; genres: Horror 1; title: Scream, Part / One",
    ]


def test_free_text_alone_gives_its_telling_words() -> None:
    # 'shoe' and 'running' are in two of five names; 'blue' and 'the' are in one and cannot come again.
    assert write(ExtractiveWriter(PRODUCTS), [items("123", PRODUCTS)]) == [
        "words: red 2, running 2, shoe 2, wool 1; name: red running shoe 42 | blue running shoe | red wool hat"
    ]


def test_an_item_that_shares_nothing_is_not_typical_however_much_it_says() -> None:
    names = ["red hat", "red shoe", "red sock", "one long name with many words of its own"]
    catalogue = ItemText.from_rows(["name"], {str(n): [name] for n, name in enumerate(names)})
    (text,) = write(ExtractiveWriter(catalogue), [items("0123", catalogue)])
    assert text == "words: red 3; name: red hat | red shoe | red sock"


def test_a_summary_in_other_words_stays_in_front() -> None:
    writer = ExtractiveWriter(MOVIES)
    (text,) = update(writer, ["Likes slow films; mostly: at night"], [items("4")])
    assert text == "Likes slow films; mostly: at night; year: 1990s 1; genres: Comedy 1, Crime 1; title: Fargo"
    (again,) = update(writer, [text], [items("5")])
    assert again == (
        "Likes slow films; mostly: at night; year: 1990s 2; genres: Comedy 2, Crime 1; title: Fargo | Clerks"
    )


def test_no_text_gives_an_empty_summary() -> None:
    writer = ExtractiveWriter(MOVIES)
    assert write(writer, [items("x")]) == [""]
    assert merge(writer, [["", ""]]) == [""]
    assert writer.report() == {"texts": 2, "words": 0, "empty": 2}


def test_an_empty_catalogue_is_no_fault() -> None:
    nothing = ItemText.from_rows(["title"], {})
    assert write(ExtractiveWriter(nothing), [[nothing["1"]]]) == [""]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["Drama War", "Drama", "War", "Drama"], "terms"),
        (["Drama|War", "Drama", "War", "Drama"], "terms"),
        (["news", "news", "sports", "sports"], "values"),
        (["Small Parts", "Small Parts", "3M", "3M"], "values"),
        (["1994", "1995", "1996"], "decades"),
        (["1994"] * 19 + ["unknown"], "decades"),
        (["1994", "1995", "unknown"], "text"),
        (["en", "en"], "constant"),
        (["Heat", "Fargo", "Alien"], "text"),
        (["one title"], "text"),
        ([], "text"),
    ],
)
def test_a_column_is_known_by_its_values(values: list[str], kind: str) -> None:
    assert column_kind(values) == kind


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("size", range(1, 8))
def test_counts_of_a_whole_history_are_exact_for_any_block_size(
    paradigm: str, size: int, summarize_histories: Any
) -> None:
    settings = SummarySettings(summary=paradigm, block_size=size, summarize_remainder="yes")
    history = {0: "123456789" * 3}
    text = summarize_histories(history, MOVIES, ExtractiveWriter(MOVIES), settings).summaries[0]
    genres = text.split("; ")[1].removeprefix("genres: ").split(", ")
    assert sorted(genres[:4]) == ["Crime 9", "Drama 9", "Horror 9", "Sci-Fi 9"]
    assert sorted(genres[4:]) == ["Action 6", "Comedy 6"]


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_summary_stays_short_however_long_the_history(paradigm: str, summarize_histories: Any) -> None:
    generator = random.Random(0)
    rows = {
        str(n): [f"title {n} of many words that go on and on", f"genre{n % 30} genre{n % 7}", f"maker {n % 40}"]
        for n in range(400)
    }
    catalogue = ItemText.from_rows(["title", "genres", "brand"], rows)
    history = {0: generator.choices(list(rows), k=2000)}
    settings = SummarySettings(summary=paradigm)
    text = summarize_histories(history, catalogue, ExtractiveWriter(catalogue), settings).summaries[0]
    assert 30 <= len(text.split()) <= 75


def test_what_other_jobs_asked_never_changes_a_text() -> None:
    tokens = list(MOVIES.items)
    generator = random.Random(3)
    blocks = [items("".join(generator.choices(tokens, k=generator.randrange(1, 8)))) for _ in range(40)]
    together = write(ExtractiveWriter(MOVIES), blocks)
    assert together == [write(ExtractiveWriter(MOVIES), [block])[0] for block in blocks]


@pytest.mark.parametrize("seed", range(60))
def test_item_texts_full_of_separators_neither_crash_nor_lose_count(seed: int, summarize_histories: Any) -> None:
    generator = random.Random(seed)
    pieces = ["a", "Co.", ";", "; ", ",", ", ", " | ", "|", ":", " ", "7", "12,", "brand", "title"]
    brands = ["".join(generator.choices(pieces, k=4)) for _ in range(3)]
    rows = {str(n): ["".join(generator.choices(pieces, k=6)) + f" {n}", generator.choice(brands)] for n in range(12)}
    catalogue = ItemText.from_rows(["title", "brand"], rows)
    writer = ExtractiveWriter(catalogue)
    settings = SummarySettings(summary="hierarchical", block_size=3, summarize_remainder="yes")
    text = summarize_histories({0: list(rows)}, catalogue, writer, settings).summaries[0]
    (whole,) = write(writer, [[catalogue[token] for token in rows]])
    assert parse_digest(text, ["brand"], "title").counts == parse_digest(whole, ["brand"], "title").counts
    assert merge(writer, [[text]]) == [text]


def test_a_text_is_known_by_the_whole_catalogue_whose_statistics_weigh_it() -> None:
    def settings(catalogue: ItemText) -> Any:
        return ExtractiveWriter(catalogue).settings("block")

    assert settings(MOVIES) == settings(ItemText.from_rows(MOVIES.columns, rows(MOVIES)))
    # Of equal titles the first in the file counts, so its order is part of what decides a text.
    assert settings(MOVIES) != settings(ItemText.from_rows(MOVIES.columns, dict(reversed(rows(MOVIES).items()))))
    assert settings(MOVIES) != settings(ItemText.from_rows(MOVIES.columns, {**rows(MOVIES), "10": ["Up", "", "", ""]}))


def rows(catalogue: ItemText) -> dict[str, list[str]]:
    return {
        token: [dict(item.fields).get(column, "") for column in catalogue.columns]
        for token, item in catalogue.items.items()
    }


def test_texts_that_are_no_part_of_the_catalogue_do_not_pile_up():
    catalogue = ItemText.from_rows(["title"], {str(n): [f"film {n}"] for n in range(5)})
    writer = ExtractiveWriter(catalogue)
    for n in range(50):
        new = ItemText.from_rows(["title"], {"x": [f"novel {n}"]})["x"]
        ((_, answer),) = next(writer.run([Job("block", (catalogue["1"], new))]))
        assert f"novel {n}" in answer.text
    assert len(writer._catalogue._keys) == 5
