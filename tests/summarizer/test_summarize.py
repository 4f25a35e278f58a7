from __future__ import annotations

import importlib
import random
from collections.abc import Mapping, Sequence

import pytest

from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.settings import SummarySettings
from recbole_llmtrsr.summarizer import PARADIGMS, SummaryResult, summarize

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CATALOGUE = ItemText.from_rows(["title"], {letter: [letter.upper()] for letter in LETTERS}, labels=False)


class EchoWriter:
    """Writes down what it reads: [AB] is a block, (x|CD) an update of x, {x,y} a merge."""

    name = "echo"

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def write(self, blocks: Sequence[Sequence[Item]]) -> list[str]:
        return self._log(["[" + "".join(item.line for item in block) + "]" for block in blocks])

    def update(self, previous: Sequence[str], blocks: Sequence[Sequence[Item]]) -> list[str]:
        pairs = zip(previous, blocks, strict=True)
        return self._log([f"({text}|{''.join(item.line for item in block)})" for text, block in pairs])

    def merge(self, groups: Sequence[Sequence[str]]) -> list[str]:
        return self._log(["{" + ",".join(group) + "}" for group in groups])

    def report(self) -> dict[str, int]:
        return {"jobs": len(self.jobs)}

    def _log(self, texts: list[str]) -> list[str]:
        self.jobs += texts
        return texts


def run(histories: Mapping[int, Sequence[str]], paradigm: str, **options: int) -> tuple[SummaryResult, list[str]]:
    writer = EchoWriter()
    settings = SummarySettings(summary=paradigm, **{"block_size": 2, **options})
    return summarize(histories, CATALOGUE, writer, settings), writer.jobs


def prefixes(history: str) -> dict[int, str]:
    return {n: history[:n] for n in range(len(history) + 1)}


def test_hierarchical_summarizes_blocks_with_the_short_last_one_and_merges_them_in_order() -> None:
    result, jobs = run({7: "abcde"}, "hierarchical")
    assert result.summaries == {7: "{[AB],[CD],[E]}"}
    assert jobs == ["[AB]", "[CD]", "[E]", "{[AB],[CD],[E]}"]


def test_recurrent_updates_block_by_block_with_the_short_last_one() -> None:
    result, jobs = run({7: "abcde"}, "recurrent")
    assert result.summaries == {7: "(([AB]|CD)|E)"}
    assert jobs == ["[AB]", "([AB]|CD)", "(([AB]|CD)|E)"]


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_one_block_is_its_own_summary_and_no_item_is_no_summary(paradigm: str) -> None:
    result, jobs = run({0: "", 1: "a", 2: "ab"}, paradigm)
    assert result.summaries == {0: "", 1: "[A]", 2: "[AB]"}
    assert jobs == ["[A]", "[AB]"]


def test_the_most_recent_blocks_are_kept_in_both_paradigms() -> None:
    assert run({0: "abcde"}, "hierarchical", max_blocks=2)[0].summaries == {0: "{[CD],[E]}"}
    assert run({0: "abcde"}, "recurrent", max_blocks=2)[0].summaries == {0: "([CD]|E)"}
    assert run({0: "abcde"}, "recurrent", max_blocks=1)[0].summaries == {0: "[E]"}


def test_prefixes_and_users_share_blocks_and_chains() -> None:
    histories = {0: "ab", 1: "abc", 2: "abcd", 3: "abcd", 4: "abz"}
    assert run(histories, "hierarchical")[1] == [
        "[AB]", "[C]", "[CD]", "[Z]",
        "{[AB],[C]}", "{[AB],[CD]}", "{[AB],[Z]}",
    ]  # fmt: skip
    assert run(histories, "recurrent")[1] == ["[AB]", "([AB]|C)", "([AB]|CD)", "([AB]|Z)"]


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("length", [0, 1, 4, 7, 26])
def test_all_prefixes_of_a_user_cost_one_block_or_update_each_and_a_merge_beyond_the_first_block(
    length: int, size: int
) -> None:
    histories = prefixes(LETTERS[:length])
    blocks_one_by_one = sum(-(-n // size) for n in histories)
    beyond = max(0, length - size)

    hierarchical, jobs = run(histories, "hierarchical", block_size=size)
    assert hierarchical.distinct == {"block": length, "update": 0, "merge": beyond}
    assert hierarchical.calls == blocks_one_by_one + beyond
    assert hierarchical.report == {"jobs": length + beyond}
    assert len(jobs) == len(set(jobs)) == length + beyond

    recurrent, jobs = run(histories, "recurrent", block_size=size)
    assert recurrent.distinct == {"block": min(size, length), "update": beyond, "merge": 0}
    assert recurrent.calls == blocks_one_by_one
    assert len(jobs) == len(set(jobs)) == length


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("size", range(1, 8))
def test_a_summary_holds_exactly_the_items_of_its_history_in_order(paradigm: str, size: int) -> None:
    # The letters differ, so a later item in the summary of a prefix would show.
    summaries = run(prefixes(LETTERS), paradigm, block_size=size)[0].summaries
    assert {n: "".join(filter(str.isalpha, text)).lower() for n, text in summaries.items()} == prefixes(LETTERS)


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_what_comes_after_a_prefix_does_not_change_its_summary(paradigm: str) -> None:
    one = run(prefixes("abcdefgh"), paradigm)[0].summaries
    other = run(prefixes("abcdezzz"), paradigm)[0].summaries
    alone = run({5: "abcde"}, paradigm)[0].summaries
    assert one[5] == other[5] == alone[5]
    assert one[6] != other[6]


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_the_order_of_histories_changes_neither_summaries_nor_cost_and_a_second_run_equals_the_first(
    paradigm: str,
) -> None:
    generator = random.Random(1)
    histories = {n: "".join(generator.choices("abcd", k=generator.randrange(12))) for n in range(60)}
    shuffled = dict(generator.sample(list(histories.items()), len(histories)))
    first, second, other = (run(h, paradigm, block_size=3)[0] for h in (histories, histories, shuffled))
    assert first.summaries == second.summaries == other.summaries
    assert first.distinct == second.distinct == other.distinct
    assert set(other.summaries) == set(range(60))


def test_without_a_paradigm_nothing_is_called() -> None:
    result, jobs = run({3: "abc", 4: ""}, "none")
    assert (result.summaries, result.calls, jobs) == ({3: "", 4: ""}, 0, [])
    assert result.distinct == {"block": 0, "update": 0, "merge": 0}


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_more_jobs_than_one_writer_call_takes_are_all_done(paradigm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = prefixes(LETTERS)
    whole = run(histories, paradigm)
    monkeypatch.setattr(importlib.import_module("recbole_llmtrsr.summarizer.summarize"), "JOBS_PER_CALL", 3)
    chunked = run(histories, paradigm)
    assert chunked[0].summaries == whole[0].summaries
    assert chunked[1] == whole[1]


def test_progress_is_drawn_over_calls(capsys: pytest.CaptureFixture[str]) -> None:
    settings = SummarySettings(block_size=2)
    summarize({0: "abcd"}, CATALOGUE, EchoWriter(), settings, show_progress=True)
    assert "3/3" in capsys.readouterr().err
    summarize({0: "abcd"}, CATALOGUE, EchoWriter(), settings, show_progress=False)
    assert capsys.readouterr().err == ""


def test_planning_is_linear_in_a_long_history() -> None:
    tokens = [str(n) for n in range(700)]
    plan = PARADIGMS["recurrent"]({n: tokens[:n] for n in range(1, 701)}, 5, None)
    assert len(plan.calls) == 700
    assert max(len(call.items) + len(call.inputs) for call in plan.calls) == 6
    assert max(call.wave for call in plan.calls) == 139
