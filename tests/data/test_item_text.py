from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmtrsr.data.item_text import PLACEHOLDER, Item, ItemText, check_coverage, one_line, read_item_text
from recbole_llmtrsr.errors import UserError

HEADER = "item_id:token\ttitle:token_seq\tbrand:token\tprice:float\n"


def read(folder: Path, lines: str | bytes, columns=None, header: str = HEADER, **options) -> ItemText:
    path = folder / "x.item"
    path.write_bytes(header.encode() + (lines if isinstance(lines, bytes) else lines.encode()))
    return read_item_text(path, "item_id", columns, **options)


def test_a_line_is_its_columns_with_their_names(tmp_path):
    item = read(tmp_path, "1\tToy Story\tPixar\t9.5\n")["1"]
    assert item == Item((("title", "Toy Story"), ("brand", "Pixar")), "title: Toy Story; brand: Pixar")


def test_a_line_without_labels_is_the_values(tmp_path):
    assert read(tmp_path, "1\tToy Story\tPixar\t9.5\n", labels=False)["1"].line == "Toy Story; Pixar"


def test_named_columns_come_in_the_order_named_floats_too(tmp_path):
    assert read(tmp_path, "1\tToy\tPixar\t9.5\n", ["price", "title"])["1"].line == "price: 9.5; title: Toy"


def test_columns_without_a_type_are_read(tmp_path):
    assert read(tmp_path, "1\tToy\n", header="item_id\ttitle\n")["1"].line == "title: Toy"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1\t\tPixar\t", "brand: Pixar"),
        ("1\tToy", "title: Toy"),
        ("1\t  \t\t", PLACEHOLDER),
        ("1", PLACEHOLDER),
        ('1\t"Toy" \'Story\', "\tPixar\t', 'title: "Toy" \'Story\', "; brand: Pixar'),
        ('1\t"never closed\tPixar\t', 'title: "never closed; brand: Pixar'),
        ("1\tTom &amp; J&#39;erry <b>\tPixar\t", "title: Tom &amp; J&#39;erry <b>; brand: Pixar"),
        ("1\tnull\tNaN\t", "title: null; brand: NaN"),
        (
            "1\tone\u2028two\u2029three\u0085four\x0bfive\x0csix\x1eseven\tP\t",
            "title: one two three four five six seven; brand: P",
        ),
        ("1\tlone\rreturn\tP\t", "title: lone return; brand: P"),
        ("1\tnul\x00byte\x07\tP\t", "title: nul byte; brand: P"),
        (
            "1\tfamily \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f\tP\t",
            "title: family \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f; brand: P",
        ),
        ("1\t\u0645\u06cc\u200c\u062e\u0648\tP\t", "title: \u0645\u06cc\u200c\u062e\u0648; brand: P"),
        ("1\ta;b: c\tP\t", "title: a;b: c; brand: P"),
        ("1\t{items} %s \\n\tP\t", "title: {items} %s \\n; brand: P"),
    ],
)
def test_a_text_stays_as_it_is_but_on_one_line(tmp_path, line, text):
    texts = read(tmp_path, f"{line}\n2\tnext\t\t\n")
    assert texts["1"].line == text
    assert texts["2"].line == "title: next"
    assert len(texts.items) == 2


def test_a_long_description_is_whole(tmp_path):
    words = " ".join(f"word{n}" for n in range(10_000))
    assert read(tmp_path, f"1\t{words}\t\t\n")["1"].line == f"title: {words}"


def test_windows_line_ends_and_a_byte_order_mark_leave_no_trace(tmp_path):
    path = tmp_path / "x.item"
    path.write_bytes(b"\xef\xbb\xbf" + b"item_id:token\ttitle:token_seq\r\n1\tToy\r\n2\t\r\n")
    texts = read_item_text(path, "item_id")
    assert {token: item.fields for token, item in texts.items.items()} == {"1": (("title", "Toy"),), "2": ()}
    assert texts.columns == ("title",)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf_8", "latin-1", "utf-16"])
def test_a_file_is_read_in_its_encoding(tmp_path, encoding):
    path = tmp_path / "x.item"
    path.write_bytes("item_id:token\ttitle:token_seq\n1\tÆrø\n".encode(encoding))
    assert read_item_text(path, "item_id", encoding=encoding)["1"].line == "title: Ærø"


def test_the_last_line_needs_no_end_and_empty_lines_are_no_items(tmp_path):
    assert list(read(tmp_path, "1\ta\t\t\n\n\n2\tb\t\t").items) == ["1", "2"]


def test_surplus_columns_are_joined_to_the_last_and_numbered(tmp_path):
    texts = read(tmp_path, "1\ta\tb\n2\ta\tb\tc\td\n3\ta\tb\n", header="item_id:token\ttitle:token_seq\tbrand:token\n")
    assert texts.ragged_lines == (3,)
    assert texts["2"].fields == (("title", "a"), ("brand", "b c d"))


def test_of_two_rows_with_one_id_the_first_counts(tmp_path):
    assert read(tmp_path, "1\tfirst\t\t\n1\tsecond\t\t\n")["1"].line == "title: first"


def test_an_item_without_a_row_or_text_gets_the_placeholder_and_is_listed(tmp_path):
    texts = read(tmp_path, "1\ta\t\t\n2\t\t\t\n")
    assert texts["3"] == texts["2"] == Item((), PLACEHOLDER)
    assert texts.without_text(["1", "2", "3"]) == ["2", "3"]


def test_the_id_may_be_any_column_and_the_separator_any_sign(tmp_path):
    texts = read(tmp_path, "Toy|1\n", header="title:token_seq|item_id:token\n", separator="|")
    assert texts["1"].line == "title: Toy"


def test_texts_in_memory_equal_those_read(tmp_path):
    read_texts = read(tmp_path, "1\tToy  Story\tPixar\t\n", ["title", "brand"])
    assert ItemText.from_rows(["title", "brand"], {"1": ["Toy  Story", "Pixar"]}) == read_texts


def test_unknown_columns_are_all_named_with_the_nearest(tmp_path):
    with pytest.raises(UserError) as fault:
        read(tmp_path, "", ["titel", "abstract", "brand"])
    path = tmp_path / "x.item"
    assert fault.value.faults == (
        f"item_text_fields: {path} has no column 'titel'; its columns are title, brand, price; did you mean 'title'?",
        f"item_text_fields: {path} has no column 'abstract'; its columns are title, brand, price",
    )


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("id:token\ttitle:token_seq\n", None, "has no column 'item_id'; its columns are id, title"),
        ("", None, "has no column 'item_id'"),
        ("item_id:token\tprice:float\n", None, "has no text column: LLMTRSR needs at least one besides the id"),
        (HEADER, [], "has no text column"),
    ],
)
def test_a_file_without_id_or_text_is_refused(tmp_path, header, columns, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, "", columns, header=header)


def test_a_missing_file_says_what_to_write(tmp_path):
    with pytest.raises(UserError, match=r"no item file .*no\.item.*header 'item_id:token\ttitle:token_seq'"):
        read_item_text(tmp_path / "no.item", "item_id")


@pytest.mark.parametrize("options", [{}, {"encoding": "klingon"}])
def test_bytes_that_are_not_of_the_encoding_are_the_users_fault(tmp_path, options):
    with pytest.raises(UserError, match=r"item file .*x\.item cannot be read .*set encoding"):
        read(tmp_path, "1\tÆrø\n".encode("latin-1"), **options)


@pytest.mark.parametrize("text", ["a\tb", "a\r\n\r\nb", " a \u3000b\u00a0", "a\x7f\x9fb"])
def test_one_line_makes_every_gap_one_space(text):
    assert one_line(text) == "a b"


TITLED, ALIEN = {str(n): [f"Title {n}"] for n in range(100)}, [f"{n}.0" for n in range(96)]
UNLIKE = r"because the ids .* do not match \(the first are '0\.0' and '0'\): write them alike"
COVERAGE = {
    "other ids": (TITLED, ALIEN, f"0 of 96 items have a text, {UNLIKE}"),
    "a few ids": (TITLED, [*ALIEN, *"1234"], f"4 of 100 items have a text, {UNLIKE}"),
    "empty columns": (
        {str(n): [""] for n in range(9)},
        [*"012345678"],
        "0 of 9 items have a text: the columns of item_text_fields are empty",
    ),
    "few rows": (
        {"1": ["One"], "2": ["Two"]},
        [str(n) for n in range(1, 99)],
        r"2 of 98 items have a text: the \.item file has rows of 2 items; complete it",
    ),
}


@pytest.mark.parametrize(("rows", "tokens", "message"), COVERAGE.values(), ids=COVERAGE)
def test_a_catalogue_of_which_nearly_no_item_has_a_text_is_refused_with_the_cause(rows, tokens, message):
    text = ItemText.from_rows(["title"], rows)
    with pytest.raises(UserError, match=message):
        check_coverage(text, tokens, text.without_text(tokens), "a text", "item_text_fields")


def test_one_item_in_twenty_with_a_text_is_enough():
    text, tokens = ItemText.from_rows(["title"], TITLED), [*ALIEN, *"123456"]
    check_coverage(text, tokens, text.without_text(tokens), "a text", "item_text_fields")
