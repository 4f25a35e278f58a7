from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.summarizer.planning.make_plan import PARADIGMS, make_plan

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CATALOGUE = ItemText.from_rows(["title"], {letter: [letter.upper()] for letter in LETTERS}, labels=False)


@pytest.fixture
def run(summarize_histories: Any, make_echo: Any) -> Any:
    """(histories, paradigm, options) -> (result, what the writer wrote); remainders are summarized unless told."""

    def run(histories: Any, paradigm: str, **options: Any) -> Any:
        writer = make_echo()
        settings = SummarySettings(summary=paradigm, **{"block_size": 2, "summarize_remainder": "yes", **options})
        return summarize_histories(histories, CATALOGUE, writer, settings), sorted(writer.jobs)

    return run


def apart(history: str) -> dict[int, str]:
    return {n: history[:n] for n in range(len(history) + 1)}


def test_hierarchical_summarizes_blocks_with_the_short_last_one_and_merges_them_in_order(run: Any) -> None:
    result, jobs = run({7: "abcde"}, "hierarchical")
    assert result.summaries == {7: "{[AB],[CD],[E]}"}
    assert jobs == ["[AB]", "[CD]", "[E]", "{[AB],[CD],[E]}"]


def test_recurrent_updates_block_by_block_with_the_short_last_one(run: Any) -> None:
    result, jobs = run({7: "abcde"}, "recurrent")
    assert result.summaries == {7: "(([AB]|CD)|E)"}
    assert jobs == ["(([AB]|CD)|E)", "([AB]|CD)", "[AB]"]


def test_an_unfinished_block_can_be_left_to_the_recent_items(run: Any) -> None:
    histories = {0: "", 1: "a", 2: "ab", 3: "abc", 5: "abcde"}
    assert run(histories, "hierarchical", summarize_remainder="no")[0].summaries == {
        0: "", 1: "", 2: "[AB]", 3: "[AB]", 5: "{[AB],[CD]}"
    }  # fmt: skip
    result, _ = run(histories, "recurrent", summarize_remainder="no")
    assert result.summaries == {0: "", 1: "", 2: "[AB]", 3: "[AB]", 5: "([AB]|CD)"}
    assert result.report["histories_without_block"] == 2


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_one_block_is_its_own_summary_and_no_item_is_no_summary(run: Any, paradigm: str) -> None:
    result, jobs = run({0: "", 1: "a", 2: "ab"}, paradigm)
    assert result.summaries == {0: "", 1: "[A]", 2: "[AB]"}
    assert jobs == ["[AB]", "[A]"]


def test_a_tree_merges_aligned_groups_and_takes_up_what_is_alone(run: Any) -> None:
    def summary(history: str, **options: Any) -> str:
        return run({0: history}, "hierarchical", block_size=1, **options)[0].summaries[0]

    assert summary("abcd", merge_fan_in=2) == "{{[A],[B]},{[C],[D]}}"
    assert summary("abcde", merge_fan_in=2) == "{{{[A],[B]},{[C],[D]}},[E]}"
    assert summary("abcdefg", merge_fan_in=2) == "{{{[A],[B]},{[C],[D]}},{{[E],[F]},[G]}}"
    assert summary("abcdefg", merge_fan_in=3) == "{{[A],[B],[C]},{[D],[E],[F]},[G]}"
    assert summary("abcdefg", merge_fan_in=9) == summary("abcdefg") == "{[A],[B],[C],[D],[E],[F],[G]}"
    assert summary("abcdefg", merge_fan_in=2, max_depth=2) == "{[A],[B],[C],[D],[E],[F],[G]}"
    assert summary("abcdefg", merge_fan_in=2, max_depth=3) == "{{[A],[B]},{[C],[D]},{[E],[F]},[G]}"


def test_prefixes_share_all_but_the_last_merge_of_each_level_of_a_tree(run: Any) -> None:
    whole = "abcdefghijklmnop"
    jobs = run(apart(whole), "hierarchical", block_size=1, merge_fan_in=2)[1]
    merges = [job for job in jobs if job[0] == "{"]
    # 15 merges of full groups; each of the other prefixes ends in a merge of its own for each level it leaves open.
    assert len(merges) == 15 + sum(bin(n).count("1") - 1 for n in range(1, 17))
    assert len(set(merges)) == len(merges)


def test_the_most_recent_blocks_are_kept_in_both_paradigms(run: Any) -> None:
    assert run({0: "abcde"}, "hierarchical", max_blocks=2)[0].summaries == {0: "{[CD],[E]}"}
    assert run({0: "abcde"}, "recurrent", max_blocks=2)[0].summaries == {0: "([CD]|E)"}
    assert run({0: "abcde"}, "recurrent", max_blocks=1)[0].summaries == {0: "[E]"}
    whole_blocks = {"max_blocks": 2, "summarize_remainder": "no"}
    assert run({0: "abcdefg"}, "hierarchical", **whole_blocks)[0].summaries == {0: "{[CD],[EF]}"}
    assert run({0: "abcdefg"}, "recurrent", **whole_blocks)[0].summaries == {0: "([CD]|EF)"}
    result, jobs = run({0: "abcdefgh"}, "recurrent", max_blocks=2)
    assert (result.summaries, jobs) == ({0: "([EF]|GH)"}, ["([EF]|GH)", "[EF]"])


def test_prefixes_and_users_share_blocks_and_chains(run: Any) -> None:
    histories = {0: "ab", 1: "abc", 2: "abcd", 3: "abcd", 4: "abz"}
    assert run(histories, "hierarchical")[1] == [
        "[AB]", "[CD]", "[C]", "[Z]",
        "{[AB],[CD]}", "{[AB],[C]}", "{[AB],[Z]}",
    ]  # fmt: skip
    assert run(histories, "recurrent")[1] == ["([AB]|C)", "([AB]|CD)", "([AB]|Z)", "[AB]"]


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("length", [0, 1, 4, 7, 26])
def test_all_prefixes_of_a_user_cost_one_call_per_block_and_a_merge_beyond_the_first(
    length: int, size: int, run: Any
) -> None:
    histories, n_blocks = apart(LETTERS[:length]), length // size
    alone = sum(n // size for n in histories)
    merges = sum(n // size > 1 for n in histories)

    hierarchical, jobs = run(histories, "hierarchical", block_size=size, summarize_remainder="no")
    assert hierarchical.report["calls_by_kind"] == {"block": n_blocks, "update": 0, "merge": max(0, n_blocks - 1)}
    assert hierarchical.report["calls_unshared"] == alone + merges
    assert len(jobs) == len(set(jobs)) == n_blocks + max(0, n_blocks - 1)

    recurrent, jobs = run(histories, "recurrent", block_size=size, summarize_remainder="no")
    calls = {"block": min(1, n_blocks), "update": max(0, n_blocks - 1), "merge": 0}
    assert recurrent.report["calls_by_kind"] == calls
    assert recurrent.report["calls_unshared"] == alone
    assert len(jobs) == len(set(jobs)) == n_blocks


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("length", [0, 1, 4, 7, 26])
def test_summarizing_remainders_costs_a_block_per_prefix(length: int, size: int, run: Any) -> None:
    histories, beyond = apart(LETTERS[:length]), max(0, length - size)
    hierarchical, jobs = run(histories, "hierarchical", block_size=size)
    assert hierarchical.report["calls_by_kind"] == {"block": length, "update": 0, "merge": beyond}
    assert hierarchical.report["calls_unshared"] == sum(-(-n // size) for n in histories) + beyond
    recurrent, jobs = run(histories, "recurrent", block_size=size)
    assert recurrent.report["calls_by_kind"] == {"block": min(size, length), "update": beyond, "merge": 0}
    assert len(jobs) == len(set(jobs)) == length


@pytest.mark.parametrize("options", [{}, {"merge_fan_in": 2}, {"merge_fan_in": 3, "max_depth": 3}])
@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("size", range(1, 8))
def test_a_summary_holds_exactly_the_items_of_its_history_in_order(
    paradigm: str, size: int, options: Any, run: Any
) -> None:
    # The letters differ, so a later item in the summary of a prefix would show.
    result, _ = run(apart(LETTERS), paradigm, block_size=size, **options)
    assert {n: letters(text) for n, text in result.summaries.items()} == apart(LETTERS)
    left, _ = run(apart(LETTERS), paradigm, block_size=size, summarize_remainder="no", **options)
    assert {n: letters(text) for n, text in left.summaries.items()} == {
        n: LETTERS[: n // size * size] for n in range(27)
    }


def letters(text: str) -> str:
    return "".join(filter(str.isalpha, text)).lower()


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_what_comes_after_a_prefix_does_not_change_its_summary(run: Any, paradigm: str) -> None:
    one = run(apart("abcdefgh"), paradigm)[0].summaries
    other = run(apart("abcdezzz"), paradigm)[0].summaries
    alone = run({5: "abcde"}, paradigm)[0].summaries
    assert one[5] == other[5] == alone[5]
    assert one[6] != other[6]


@pytest.mark.parametrize("remainder", ["no", "yes"])
@pytest.mark.parametrize("options", [{"merge_fan_in": 4}, {"summary": "recurrent"}])
def test_a_plan_grows_by_a_bounded_number_of_numbers_per_event(options: Any, remainder: str) -> None:
    def size(n_events: int) -> int:
        settings = SummarySettings(summarize_remainder=remainder, **options)
        begin, end = np.zeros(n_events, np.int64), np.arange(n_events)
        plan = make_plan(np.arange(n_events), begin, end, settings)
        return sum(1 + len(plan.items_of(call)) + len(plan.inputs_of(call)) for call in range(len(plan)))

    # Twice the events of one user: all their prefixes cost about twice as much, not four times. (A merge of all blocks
    # at once reads as many texts as there are blocks, whoever plans it.)
    assert size(4000) <= 2.3 * size(2000)
