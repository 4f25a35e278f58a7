from __future__ import annotations

import importlib
import io
import random
from contextlib import nullcontext
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.histories import Histories
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText, GenerationFailure
from recbole_llmtrsr.summarizer.execute import Executor
from recbole_llmtrsr.summarizer.planning.make_plan import PARADIGMS
from recbole_llmtrsr.summarizer.store.exchange import export_store, import_store
from recbole_llmtrsr.summarizer.store.store import SummaryStore
from recbole_llmtrsr.summarizer.summarize import plan_calls
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CATALOGUE = ItemText.from_rows(["title"], {letter: [letter.upper()] for letter in LETTERS}, labels=False)
PREFIXES = {n: LETTERS[:n] for n in range(27)}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with SummaryStore(tmp_path / "store.sqlite") as store:
        yield store


def options(paradigm: str = "hierarchical", **others: Any) -> SummarySettings:
    return SummarySettings(summary=paradigm, **{"block_size": 2, "summarize_remainder": "yes", **others})


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_second_run_makes_no_call_and_gives_the_same(
    paradigm: str, summarize_histories: Any, make_echo: Any, store: SummaryStore
) -> None:
    first, second = make_echo(), make_echo()
    one = summarize_histories(PREFIXES, CATALOGUE, first, options(paradigm), store)
    two = summarize_histories(PREFIXES, CATALOGUE, second, options(paradigm), store)
    assert one.summaries == two.summaries
    assert (one.report["made"], one.report["found"]) == (len(first.jobs), 0)
    assert (two.report["made"], two.report["found"]) == (0, len(first.jobs))
    assert second.jobs == []


def test_new_events_cost_only_the_new_calls(summarize_histories: Any, make_echo: Any, store: SummaryStore) -> None:
    summarize_histories({0: "abcd"}, CATALOGUE, make_echo(), options("recurrent"), store)
    later = make_echo()
    summarize_histories({0: "abcdef"}, CATALOGUE, later, options("recurrent"), store)
    assert later.jobs == ["(([AB]|CD)|EF)"]


def test_another_writer_or_other_settings_share_nothing(
    summarize_histories: Any, make_echo: Any, store: SummaryStore
) -> None:
    summarize_histories({0: "abcd"}, CATALOGUE, make_echo(), options(), store)
    other = make_echo("other style")
    summarize_histories({0: "abcd"}, CATALOGUE, other, options(), store)
    assert sorted(other.jobs) == ["[AB]", "[CD]", "{[AB],[CD]}"]


def test_a_text_is_known_by_what_it_was_made_from_and_not_by_item_ids(
    summarize_histories: Any, make_echo: Any, store: SummaryStore
) -> None:
    summarize_histories({0: "ab"}, CATALOGUE, make_echo(), options(), store)
    renamed = ItemText.from_rows(["title"], {"y": ["B"], "x": ["A"]}, labels=False)
    changed = ItemText.from_rows(["title"], {"a": ["A"], "b": ["B, second edition"]}, labels=False)
    first, second = make_echo(), make_echo()
    assert summarize_histories({0: "xy"}, renamed, first, options(), store).summaries == {0: "[AB]"}
    assert summarize_histories({0: "ab"}, changed, second, options(), store).summaries == {0: "[AB, second edition]"}
    assert (first.jobs, second.jobs) == ([], ["[AB, second edition]"])


def test_items_that_read_the_same_share_a_call_within_a_run(summarize_histories: Any, make_echo: Any) -> None:
    twins = ItemText.from_rows(["title"], {"a": ["A"], "b": ["A"]}, labels=False)
    writer = make_echo()
    result = summarize_histories({0: "ab", 1: "ba", 2: "aa"}, twins, writer, options())
    assert result.summaries == {0: "[AA]", 1: "[AA]", 2: "[AA]"}
    assert writer.jobs == ["[AA]"]
    assert (result.report["calls"], result.report["made"], result.report["equal"]) == (3, 1, 2)


def test_equal_calls_of_different_windows_are_asked_once_even_if_there_is_no_answer(
    summarize_histories: Any, make_echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("recbole_llmtrsr.summarizer.execute"), "LOOKUPS", 1)
    twins = ItemText.from_rows(["title"], {"a": ["A"], "b": ["A"]}, labels=False)
    writer = make_echo()
    writer.answers = {"[AA]": GenerationFailure("timeout")}
    result = summarize_histories({0: "ab", 1: "ba", 2: "aa"}, twins, writer, options())
    assert writer.jobs == ["[AA]"]
    assert (result.report["failures"], result.report["replaced"], result.report["equal"]) == ({"timeout": 1}, 1, 2)


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize(("lookups", "jobs"), [(4096, 3), (5, 256), (4, 2)])
def test_windows_change_nothing(
    paradigm: str, lookups: int, jobs: int, summarize_histories: Any, make_echo: Any, monkeypatch: Any
) -> None:
    whole, parts = make_echo(), make_echo()
    expected = summarize_histories(PREFIXES, CATALOGUE, whole, options(paradigm)).summaries
    module = importlib.import_module("recbole_llmtrsr.summarizer.execute")
    monkeypatch.setattr(module, "LOOKUPS", lookups)
    monkeypatch.setattr(module, "JOBS", jobs)
    assert summarize_histories(PREFIXES, CATALOGUE, parts, options(paradigm)).summaries == expected
    assert sorted(parts.jobs) == sorted(whole.jobs)


def test_a_missing_answer_is_replaced_counted_and_asked_for_again_in_the_next_run(
    summarize_histories: Any, make_echo: Any, store: SummaryStore, tmp_path: Path
) -> None:
    writer = make_echo()
    writer.answers = {"[CD]": GenerationFailure("timeout")}
    result = summarize_histories({0: "abcd"}, CATALOGUE, writer, options(), store)
    assert result.summaries == {0: "{[AB],title: C | D}"}
    assert (result.report["failures"], result.report["replaced"], result.report["made"]) == ({"timeout": 1}, 1, 2)
    exported = io.BytesIO()
    export_store(store, exported)
    (tmp_path / "store.jsonl").write_bytes(exported.getvalue())
    with SummaryStore(None) as other:  # a merge of a replacement can be taken out and in
        assert import_store(other, tmp_path / "store.jsonl").new == 2
    later = make_echo()
    mended = summarize_histories({0: "abcd"}, CATALOGUE, later, options(), store)
    assert mended.summaries == {0: "{[AB],[CD]}"}
    assert later.jobs == ["[CD]", "{[AB],[CD]}"]
    assert mended.report["failures"] == {}


CUT = GeneratedText("Likes C and", finish="length")
BAD = {"[CD]": GeneratedText("", 10, 5, 0.5)}


def checked(make_echo: Any, **answers: GeneratedText | GenerationFailure) -> Any:
    writer = make_echo()
    writer.checked, writer.answers = True, {**BAD, **answers}
    return writer


REPLACED = "{[AB],title: C | D}"
EMPTY_AGAIN = {"[CD]'": GeneratedText(" ")}
POLICIES = {
    "a fault is kept and counted": (
        "keep", {"[CD]": CUT}, "{[AB],Likes C and}", {"faults": {"cut_off": 1}, "replaced": 0, "repeated": 0}
    ),
    "what is empty is replaced": ("keep", {}, REPLACED, {"faults": {"empty": 1}, "replaced": 1}),
    "what stays empty is replaced": ("retry", EMPTY_AGAIN, REPLACED, {"faults": {"empty": 1}, "replaced": 1}),
    "a second answer that is faulty too is taken only over nothing": (
        "retry",
        {"[AB]": CUT, "[AB]'": GeneratedText("Likes A and", finish="length"), "[CD]'": CUT},
        "{Likes C and,Likes C and}",
        {"repeated": 2, "remaining_faults": {"cut_off": 2}},
    ),
    "a failed second attempt keeps the first answer": (
        "retry",
        {"[CD]": CUT, "[CD]'": GenerationFailure("timeout")},
        "{[AB],Likes C and}",
        {"failures": {"timeout": 1}, "replaced": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", POLICIES)
def test_faulty_answers_are_treated_as_the_policy_says(case: str, summarize_histories: Any, make_echo: Any) -> None:
    policy, answers, summary, counts = POLICIES[case]
    writer = checked(make_echo, **answers)
    result = summarize_histories({0: "abcd"}, CATALOGUE, writer, options(faulty_summaries=policy))
    assert result.summaries == {0: summary}
    assert {name: result.report[name] for name in counts} == counts


def test_faulty_answers_are_replaced_and_the_store_keeps_what_was_said(
    summarize_histories: Any, make_echo: Any, store: SummaryStore
) -> None:
    settings, cut = options(faulty_summaries="fallback"), {"[CD]": CUT}
    result = summarize_histories({0: "abcd"}, CATALOGUE, checked(make_echo, **cut), settings, store)
    assert result.summaries == {0: REPLACED}
    assert (result.report["faults"], result.report["replaced"]) == ({"cut_off": 1}, 1)
    # The policy is applied to what the store has, so that another one costs no call for that answer.
    again, kept = checked(make_echo, **cut), checked(make_echo, **cut)
    assert summarize_histories({0: "abcd"}, CATALOGUE, again, settings, store).report["faults"] == {"cut_off": 1}
    assert again.jobs == []
    summarize_histories({0: "abcd"}, CATALOGUE, kept, options(), store)
    assert kept.jobs == ["{[AB],Likes C and}"]


def test_faulty_answers_are_asked_for_once_more(summarize_histories: Any, make_echo: Any, store: SummaryStore) -> None:
    settings = options(faulty_summaries="retry")
    writer = checked(make_echo)
    result = summarize_histories({0: "abcd"}, CATALOGUE, writer, settings, store)
    assert result.summaries == {0: "{[AB],[CD]'}"}
    assert (result.report["faults"], result.report["repeated"]) == ({"empty": 1}, 1)
    assert result.report["remaining_faults"] == {}
    again = checked(make_echo)
    assert summarize_histories({0: "abcd"}, CATALOGUE, again, settings, store).summaries == result.summaries
    assert again.jobs == []


def test_a_missing_merge_or_update_is_replaced_by_an_extract_of_all_items_behind_it(
    summarize_histories: Any, make_echo: Any
) -> None:
    catalogue = ItemText.from_rows(
        ["title", "kind"], {letter: [letter.upper(), f"kind{n % 2}"] for n, letter in enumerate("abcdef")}, labels=False
    )
    texts = {}
    for paradigm, failing in (("hierarchical", "{"), ("recurrent", "((")):
        writer = make_echo()
        made = summarize_histories({0: "abcdef"}, catalogue, writer, options(paradigm))
        last = make_echo()
        last.answers = {text: GenerationFailure("timeout") for text in writer.jobs if text.startswith(failing)}
        texts[paradigm] = summarize_histories({0: "abcdef"}, catalogue, last, options(paradigm)).summaries[0]
        assert texts[paradigm] != made.summaries[0]
    assert texts["hierarchical"] == texts["recurrent"]
    assert "kind: kind1 3, kind0 3" in texts["hierarchical"]


@pytest.mark.parametrize("policy", ["keep", "retry", "fallback"])
@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("seed", range(5))
def test_counts_add_up_and_a_dry_run_foretells_them(
    seed: int, paradigm: str, policy: str, summarize_histories: Any, make_echo: Any, store: SummaryStore
) -> None:
    chance = random.Random(seed)
    settings = options(paradigm, faulty_summaries=policy)
    fates = (
        GeneratedText("", 10, 5),
        GeneratedText("Likes A and", 10, 5, finish="length"),
        GenerationFailure("timeout"),
    )
    blocks = [f"[{a}{b}]{second}" for a in "ABC" for b in "ABC" for second in ("", "'")]
    answers = {text: chance.choice(fates) for text in blocks if chance.random() < 0.5}
    histories = {n: "".join(chance.choices("abc", k=chance.randrange(10))) for n in range(20)}

    def run(dry: bool = False) -> Any:
        writer = make_echo()
        writer.checked, writer.answers = True, answers
        return summarize_histories(histories, CATALOGUE, writer, settings, store, dry=dry), writer

    for expected_new in (True, False):
        cost, _ = run(dry=True)
        result, writer = run()
        report = result.report
        assert report["calls"] + report["repeated"] == (
            report["equal"] + report["found"] + report["made"] + sum(report["failures"].values())
        )
        assert report["made"] + sum(report["failures"].values()) == len(writer.jobs)
        if expected_new:
            assert sum(cost.needed.values()) >= len(set(writer.jobs)) - report["repeated"]
        elif not report["failures"]:
            assert sum(cost.needed.values()) == 0 == report["made"]
        else:
            assert sum(cost.needed.values()) >= sum(report["failures"].values())


def test_answers_are_in_the_store_before_the_next_is_waited_for_and_claims_are_given_back(
    summarize_histories: Any, make_echo: Any, store: SummaryStore
) -> None:
    class Broken(type(make_echo())):
        def run(self, jobs: Any) -> Any:
            for number, some in enumerate(super().run(jobs)):
                if number == 2:
                    raise KeyboardInterrupt
                yield some

    with pytest.raises(KeyboardInterrupt):
        summarize_histories({0: "abcdefghij"}, CATALOGUE, Broken(), options(), store)
    later = make_echo()
    result = summarize_histories({0: "abcdefghij"}, CATALOGUE, later, options(), store)
    assert result.report["found"] == 4
    assert sorted(later.jobs) == ["[AB]", "{[AB],[CD],[EF],[GH],[IJ]}"]


def test_provenance_names_items_and_the_texts_that_were_read(
    summarize_histories: Any, make_echo: Any, store: SummaryStore
) -> None:
    summarize_histories({0: "abcd"}, CATALOGUE, make_echo(), options("recurrent"), store)
    block, update = sorted(store.records(store.keys()), key=lambda entry: len(entry.answer.text))
    assert block.inputs == ("item:a", "item:b")
    assert update.inputs == (f"call:{block.key.hex()}", "item:c", "item:d")


def test_the_calls_behind_a_summary_are_told(summarize_histories: Any, make_echo: Any, store: SummaryStore) -> None:
    summarize_histories({0: "ab"}, CATALOGUE, make_echo(), options(), store)
    writer = checked(make_echo)
    writer.answers["[EF]"] = GenerationFailure("timeout")
    settings = options(faulty_summaries="fallback")
    result = summarize_histories({0: "abcdef", 1: "", 2: "xy"}, CATALOGUE, writer, settings, store)
    told = [(call.kind, call.items, call.text, call.source, call.faults) for call in result.calls_of(0)]
    assert told == [
        ("block", ("A", "B"), "[AB]", "stored", ()),
        ("block", ("C", "D"), "title: C | D", "replaced", ("empty",)),
        ("block", ("E", "F"), "title: E | F", "replaced", ()),
        ("merge", (), "{[AB],title: C | D,title: E | F}", "written", ()),
    ]
    first, second, third, merge = result.calls_of(0)
    assert merge.inputs == (first.number, second.number, third.number)
    assert [(call.prompt_tokens, call.new_tokens, call.finish) for call in (first, second, third, merge)] == [
        (10, 5, "stop"),
        (BAD["[CD]"].prompt_tokens, BAD["[CD]"].new_tokens, BAD["[CD]"].finish),
        (0, 0, "none"),
        (10, 5, "stop"),
    ]
    assert result.calls_of(1) == ()


def test_progress_is_drawn_over_calls(
    summarize_histories: Any, make_echo: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    summarize_histories({0: "abcd"}, CATALOGUE, make_echo(), options(), show_progress=True)
    assert "summaries:   0%" in (drawn := capsys.readouterr().err)
    assert "0/3" in drawn
    summarize_histories({0: "abcd"}, CATALOGUE, make_echo(), options(), show_progress=False)
    assert capsys.readouterr().err == ""


def judged(histories: dict[int, str], writer: Any, **more: Any) -> Executor:
    """The executor of histories of two items, which judges their writer."""
    numbers = np.array([LETTERS.index(letter) + 1 for history in histories.values() for letter in history])
    begin = np.arange(0, len(numbers), 2)
    own = Histories(numbers, begin, begin + 2, numbers)
    items = [CATALOGUE[token] for token in ("[PAD]", *CATALOGUE.items)]
    calls = plan_calls(own, range(len(own)), items, ["[PAD]", *CATALOGUE.items], writer, options())
    return Executor(
        calls,
        writer,
        SummaryStore(None),
        **{"faulty": "keep", "make_fallback": lambda: ExtractiveWriter(CATALOGUE), "is_judged": True, **more},
    )


def pairs(n: int) -> dict[int, str]:
    """Histories of one block, no two alike."""
    return {i: "".join(pair) for i, pair in enumerate(islice(permutations(LETTERS, 2), n))}


LOST = [
    GeneratedText("", finish="length"),
    GeneratedText("Okay, so I need to", finish="length"),
    GenerationFailure("timeout"),
]


@pytest.mark.parametrize("answer", LOST)
@pytest.mark.parametrize("n", [1, 4, 40])
def test_a_writer_whose_texts_are_all_lost_is_refused_with_the_remedy(answer: Any, n: int, make_echo: Any) -> None:
    writer = checked(make_echo)
    writer.answers = {f"[{pair.upper()}]": answer for pair in pairs(n).values()}
    with pytest.raises(UserError, match=rf"summarizer 'echo': none of {n} texts are usable") as fault:
        judged(pairs(n), writer).run()
    if isinstance(answer, GeneratedText):
        assert "raise summarizer_max_new_tokens" in str(fault.value)
        assert "summarizer_request: {chat_template_kwargs: {enable_thinking: false}}" in str(fault.value)
    else:
        assert "check the server's log" in str(fault.value)


def test_it_is_refused_after_the_first_window_and_not_at_the_end(make_echo: Any) -> None:
    writer = checked(make_echo)
    writer.answers = {f"[{pair.upper()}]": GeneratedText("") for pair in pairs(500).values()}
    with pytest.raises(UserError, match="none of 9 texts are usable"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("recbole_llmtrsr.summarizer.execute"), "ENOUGH", 9)
        judged(pairs(500), writer, jobs=16).run()
    assert len(writer.jobs) == 9


@pytest.mark.parametrize(("n_lost", "is_refused"), [(20, False), (21, True)])
def test_more_than_half_of_the_texts_must_be_the_writers(
    n_lost: int, is_refused: bool, make_echo: Any, caplog: Any
) -> None:
    writer = checked(make_echo)
    writer.answers = {f"[{pair.upper()}]": GeneratedText("") for pair in pairs(n_lost).values()}
    executor = judged(pairs(40), writer)
    with pytest.raises(UserError, match="19 of 40 texts are usable") if is_refused else nullcontext():
        executor.run()
    if not is_refused:
        assert "20 of 40 summaries are replaced by extracts" in caplog.text
        assert "raise summarizer_max_new_tokens" in caplog.text


@pytest.mark.parametrize(("n", "is_told"), [(2, False), (3, True), (40, True)])
def test_faults_of_texts_that_are_used_are_told_where_many_have_them(
    n: int, is_told: bool, make_echo: Any, caplog: Any
) -> None:
    writer = checked(make_echo)
    writer.answers = {f"[{pair.upper()}]": GeneratedText("Likes A and", finish="length") for pair in pairs(n).values()}
    judged(pairs(40), writer).run()
    assert (f"have faults ({n} cut_off): raise summarizer_max_new_tokens" in caplog.text) == is_told


def test_what_got_no_answer_is_not_asked_again_in_the_same_run(make_echo: Any) -> None:
    writer = checked(make_echo)
    cut = {"[AC]": GeneratedText("Likes A and", finish="length")}
    writer.answers = {"[AB]": GenerationFailure("timeout"), **cut, "[AC]'": GenerationFailure("status 500")}
    first = judged(pairs(5), writer, faulty="retry")
    first.run()
    later = checked(make_echo)
    later.answers = cut
    second = judged(pairs(5), later, faulty="retry", unanswered=first.unanswered)
    second.run()
    assert sorted(later.jobs) == ["[AC]", "[AD]", "[AE]", "[AF]"]  # neither [AB], nor [AC]' for a second attempt
    assert second.counts == first.counts
    assert second.unanswered == first.unanswered
    assert sorted(first.unanswered.values()) == ["status 500", "timeout"]
