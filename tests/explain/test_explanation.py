from __future__ import annotations

from recbole_llmtrsr.explain.explanation import ExplainedItem, facts
from recbole_llmtrsr.summarizer.trace import TracedCall


def call(number, kind, items, *inputs):
    return TracedCall(number, kind, tuple(items), inputs, f"text {number}", "written")


def in_blocks(make_explanation, history, calls, size=2):
    made = make_explanation(
        history=tuple(ExplainedItem(letter, letter) for letter in history),
        block_size=size,
        calls=tuple(calls),
        result=calls[-1].number if calls else None,
    )
    blocks = [("".join(i.line for i in b.items), b.call and b.call.number, b.first, b.last) for b in made.blocks]
    return blocks, [c.number for c in made.merges]


def test_every_block_has_the_call_that_read_it(make_explanation):
    calls = [call(1, "block", "ab"), call(2, "block", "cd"), call(3, "merge", "", 1, 2)]
    assert in_blocks(make_explanation, "abcd", calls) == ([("ab", 1, 1, 2), ("cd", 2, 3, 4)], [3])


def test_an_unfinished_block_may_be_left_to_the_recent_items(make_explanation):
    calls = [call(1, "block", "ab"), call(2, "block", "cd"), call(3, "merge", "", 1, 2)]
    expected = [("ab", 1, 1, 2), ("cd", 2, 3, 4), ("e", None, 5, 5)]
    assert in_blocks(make_explanation, "abcde", calls) == (expected, [3])


def test_an_unfinished_block_may_be_summarized(make_explanation):
    calls = [call(1, "block", "ab"), call(2, "block", "c"), call(3, "merge", "", 1, 2)]
    assert in_blocks(make_explanation, "abc", calls) == ([("ab", 1, 1, 2), ("c", 2, 3, 3)], [3])


def test_early_blocks_beyond_max_blocks_have_no_call(make_explanation):
    calls = [call(1, "block", "ab"), call(2, "update", "cd", 1)]
    expected = [("cd", None, 1, 2), ("ab", 1, 3, 4), ("cd", 2, 5, 6), ("e", None, 7, 7)]
    assert in_blocks(make_explanation, "cdabcde", calls) == (expected, [])


def test_equal_blocks_share_a_call_in_a_tree_and_have_their_own_in_a_chain(make_explanation):
    tree = [call(1, "block", "ab"), call(2, "merge", "", 1, 1)]
    assert in_blocks(make_explanation, "abab", tree) == ([("ab", 1, 1, 2), ("ab", 1, 3, 4)], [2])
    chain = [call(1, "block", "ab"), call(2, "update", "ab", 1)]
    assert in_blocks(make_explanation, "abab", chain) == ([("ab", 1, 1, 2), ("ab", 2, 3, 4)], [])


def test_a_tree_of_merges_keeps_the_order_of_the_blocks(make_explanation):
    calls = [call(n, "block", letter) for n, letter in enumerate("abc", start=1)]
    calls += [call(4, "merge", "", 1, 2), call(5, "merge", "", 4, 3)]
    blocks, merges = in_blocks(make_explanation, "abc", calls, size=1)
    assert [number for _, number, _, _ in blocks] == [1, 2, 3]
    assert merges == [4, 5]


def test_a_long_chain_is_followed_to_its_end(make_explanation):
    calls = [call(1, "block", "a"), *(call(n, "update", "a", n - 1) for n in range(2, 1501))]
    blocks, _ = in_blocks(make_explanation, "a" * 1500, calls, size=1)
    assert [number for _, number, _, _ in blocks] == list(range(1, 1501))


def test_without_a_call_blocks_are_blocks_all_the_same(make_explanation):
    assert in_blocks(make_explanation, "a", []) == ([("a", None, 1, 1)], [])
    assert in_blocks(make_explanation, "abc", [], size=None) == ([("abc", None, 1, 3)], [])
    assert in_blocks(make_explanation, "", [], size=None) == ([], [])


def test_recent_events_are_the_last_ones(make_explanation):
    assert [event for event in range(1, 8) if make_explanation().is_recent(event)] == [6, 7]


def test_a_call_tells_where_its_text_came_from_and_what_it_cost(make_explanation):
    assert [facts(made) for made in make_explanation().calls[1:]] == [
        ("written now", "22 tokens read, 9 written", "cut off at the limit"),
        ("written now", "23 tokens read, 1 written", "ended by itself"),
        ("replaced by the extractive writer",),
    ]
