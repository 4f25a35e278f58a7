from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from html_page import Page

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.explain.explanation import ExplainedItem, ExplainedSection, facts
from recbole_llmtrsr.explain.page import page, page_name, write_page
from recbole_llmtrsr.explain.ranking import ExplainedCandidate

HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></main><img src=x onerror=alert(1)>",
    '" onmouseover="x" \'',
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "\u05db\u05d5\u05ea\u05e8\u05ea \u202eabc",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u6599\u7406",
]


def hostile(make_explanation, evil):
    made = make_explanation()
    item = ExplainedItem(evil, evil)
    return replace(
        made,
        user=evil,
        dataset=evil,
        target=item,
        history=(item,) * 7,
        calls=tuple(replace(call, text=evil, faults=(evil,)) for call in made.calls),
        summary=evil,
        sections=tuple(ExplainedSection(evil, evil, 3, 5, evil) for _ in made.sections),
        candidates=(ExplainedCandidate(evil, f"{evil} {evil}", 0.0, is_target=True, tokens_cut=1, read=evil),),
        options=((evil, evil),),
    )


def test_the_page_shows_all_that_the_explanation_holds(make_explanation):
    made = make_explanation()
    seen = Page(page(made)).text
    for item in (*made.history, made.target):
        assert f"{item.line} {item.token}" in seen
    for call in made.calls:
        assert f"Call {call.number}" in seen
        assert call.text in seen or call.number == made.result
        for fact in facts(call):
            assert fact in seen
    for section in made.sections:
        limit = "" if section.limit is None else f" of at most {section.limit}"
        assert f"{section.name} {section.tokens}{limit} tokens" in seen
        assert " ".join(section.text.split()) in seen
        assert section.note in seen
    expected = [
        "Rank 2.5 of 3",
        "The target has the same score as 1 other candidate; the rank is the mean over all orders of them.",
        "u7 Data set tiny Model LLMTRSR Events 7 before the target",
        "History in blocks of 2",
        "Block 4 event 7",
        "fault: cut off",
        "The text is empty.",
        "No summary covers this block; all its items are recent items.",
        "merged the texts of call 1 , call 2 , call 3",
        "Prompt and answer have 26 + 1 tokens, of at most 30.",
        "1 Iron stove i10 0.8808 +2.000 2.5 = Silk rug i8 0.5000 +0.000 2.5 = target Oak chair i9 0.5000 +0.000",
        "block_size 2",
    ]
    assert [line for line in expected if line not in seen] == []


def test_recent_items_are_marked(make_explanation):
    seen = Page(page(make_explanation())).text
    assert "5 Small desk i5 6 Large desk i6 recent" in seen
    assert "7 Wool rug i7 recent" in seen


@pytest.mark.parametrize("evil", HOSTILE)
def test_texts_change_nothing_in_the_page_but_the_text(make_explanation, evil):
    harmless, seen = Page(page(hostile(make_explanation, "HARMLESS"))), Page(page(hostile(make_explanation, evil)))
    assert seen.tags == harmless.tags
    assert seen.attributes == harmless.attributes
    assert seen.text.count(evil) == harmless.text.count("HARMLESS") > 50


def test_the_page_needs_nothing_else_and_runs_nothing(make_explanation):
    content = page(make_explanation(options=(("summarizer", "openai:m@http://localhost:8000/v1"),)))
    seen = Page(content)
    assert {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(seen.tags) == set()
    assert [a for a in seen.attributes if a[1] == "src" or a[1].startswith("on")] == []
    assert all(value.startswith("#") for _, name, value in seen.attributes if name == "href")
    style = content[content.index("<style>") : content.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in content.replace("openai:m@http://localhost:8000/v1", "")


def test_every_link_leads_to_one_place(make_explanation):
    made = make_explanation()
    shared = replace(made, calls=(made.calls[0], replace(made.calls[3], number=2, inputs=(1, 1, 1))), result=2)
    for explanation in (made, shared):
        attributes = Page(page(explanation)).attributes
        ids = [value for _, name, value in attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert {value[1:] for _, name, value in attributes if name == "href"} <= set(ids)


def test_headings_go_down_one_level_at_a_time(make_explanation):
    levels = [int(tag[1]) for tag in Page(page(make_explanation())).tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_line_break_at_the_begin_of_a_section_is_kept(make_explanation):
    assert '<span class="raw" dir="auto">\nAnswer:</span>' in page(make_explanation())


def test_long_texts_are_clamped_and_whole(make_explanation):
    line, prompt = " ".join(["word"] * 200), "\n".join(["a line of the prompt"] * 90)
    item = ExplainedItem("i9", line)
    long = make_explanation(target=item, history=(item,), n_recent=1, calls=(), result=None)
    made = page(replace(long, sections=(*long.sections[:-1], replace(long.sections[-1], text=prompt))))
    assert made.count(f'<details class="fold"><summary><span class="line clamp" dir="auto">{line}</span>') == 2
    assert made.count(f'<summary><span class="raw clamp" dir="auto">{prompt}</span></summary></details>') == 1
    assert "clamp" not in page(make_explanation()).partition("</style>")[2]


@pytest.mark.parametrize(("n_events", "early"), [(10, None), (12, "Blocks 1 to 2, events 1 to 4")])
def test_early_blocks_are_folded_together(make_explanation, n_events, early):
    items = tuple(ExplainedItem(f"i{n}", f"Item {n}") for n in range(n_events))
    seen = Page(page(make_explanation(history=items, calls=(), result=None)))
    assert re.findall(r"Blocks 1 to \d, events 1 to \d", seen.text) == ([early] if early else [])
    assert all(f"{item.line} {item.token}" in seen.text for item in items)


def test_the_cut_of_a_candidate_is_marked(make_explanation):
    read = "Oak chair with arms"
    cut = ExplainedCandidate("i9", f"{read} and <b>", 0.5, is_target=True, tokens_cut=7, read=read)
    other = ExplainedCandidate("i8", "Silk rug", 0.0, tokens_cut=2, read="Silc")  # not as it was read
    made = page(make_explanation(candidates=(cut, other)))
    mark = '<span class="chip bad">cut here</span>'
    assert f'{read} {mark}<span class="cut"> and &lt;b&gt;</span>' in made
    assert f'Silc {mark}<span class="cut"></span>' in made
    assert "i9 7 tokens cut" in Page(made).text
    assert "the model read the part before the mark cut here" in Page(made).text
    assert "cut here" not in Page(page(make_explanation(summary=None))).text


def test_the_summary_is_shown_once(make_explanation):
    summary = make_explanation().sections[2]
    whole = make_explanation(sections=(replace(summary, text="Kettles, lamps.", note=""),))
    seen = Page(page(whole)).text
    assert seen.count("Kettles, lamps.") == 1
    assert "Its text is the preference summary ." in seen
    assert "summary 3 of at most 3 tokens The preference summary . Candidates" in seen
    cut = Page(page(make_explanation())).text
    assert "Preference summary Kettles, la cut here mps. The model did not read the grey part." in cut
    assert "cut from 4 to 3 tokens The preference summary , cut." in cut
    assert cut.count("Kettles, la") == 1
    other = Page(page(make_explanation(sections=(replace(summary, text="none"),)))).text
    assert "cut from 4 to 3 tokens none Candidates" in other  # as read, where that is no part of the summary


@pytest.mark.parametrize(("best", "is_narrow"), [(0.2, True), (0.3, False)])
def test_bars_span_the_scores_and_a_narrow_range_is_said(make_explanation, best, is_narrow):
    scores = (0.0, best / 4, best)
    made = page(make_explanation(candidates=tuple(ExplainedCandidate(f"c{n}", "", s) for n, s in enumerate(scores))))
    assert re.findall(r"width:([\d.]+)%", made) == ["100.0", "25.0", "0.0"]
    seen = Page(made).text
    assert f"Bars show the log-odds of yes, from the lowest, +0.000, to the highest, +{best:.3f}." in seen
    assert ("The model hardly distinguishes these candidates: the odds of yes of the best are only 1.22" in seen) == (
        is_narrow
    )


def test_an_update_names_the_text_it_read(make_explanation):
    calls = make_explanation().calls
    chain = (calls[0], replace(calls[1], kind="update", inputs=(1,)), replace(calls[2], kind="update", inputs=(2,)))
    seen = Page(page(make_explanation(calls=chain, result=3))).text
    assert "Call 2 , update: the summary writer read this block and the text of call 1 ." in seen
    assert "the text of call 3 , the last, is the summary" in seen


def test_where_nothing_is_scored_it_says_why(make_explanation):
    seen = Page(page(make_explanation(sections=(), candidates=(), no_candidates="summaries only"))).text
    assert "Not ranked" in seen
    assert "There is no prompt, because this run has no model." in seen
    assert "Not ranked There are no scores: summaries only." in seen


def test_without_summaries_or_without_a_full_block_it_says_so(make_explanation):
    off = Page(page(make_explanation(block_size=None, calls=(), result=None, summary=None))).text
    assert "Summaries are off (summary: none)." in off
    assert "Block" not in off
    short = make_explanation().history[:1]
    none = Page(page(make_explanation(history=short, n_recent=1, calls=(), result=None, summary=""))).text
    assert "No call was needed" in none
    assert "No summary covers this block; all its items are recent items." in none


def test_items_that_reach_the_prompt_in_no_way_are_told(make_explanation):
    made = make_explanation(calls=(), result=None, n_recent=2)
    told = re.findall(r"No summary covers this block; ([^.]*)\.", Page(page(made)).text)
    some = ["only its recent items reach the prompt", "all its items are recent items"]
    assert told == [*["nothing of it reaches the prompt"] * 2, *some]


def test_candidates_beyond_the_shown_ones_are_counted(make_explanation):
    many = tuple(ExplainedCandidate(f"c{n}", "", -n, is_target=n == 777) for n in range(1000))
    seen = Page(page(make_explanation(candidates=many))).text
    assert "799 further candidates are not shown." in seen
    assert "778 target c777 0.0000 -777.000" in seen


def test_a_page_is_written_whole_and_nothing_else_is_left(make_explanation, tmp_path):
    path = tmp_path / "new" / page_name("u/7")
    write_page(path, make_explanation(user="first"))
    write_page(path, make_explanation())
    assert path.read_text(encoding="utf-8") == page(make_explanation())
    assert os.listdir(path.parent) == ["explain-u%2F7.html"]


def test_a_page_that_cannot_be_written_is_told_and_the_old_one_stays(make_explanation, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"page\.html cannot be written \(No space left on device\): set result_dir"):
        write_page(path, make_explanation())
    assert os.listdir(tmp_path) == ["page.html"]
    assert path.read_text() == "old"
    with pytest.raises(UserError, match="set result_dir"):
        write_page(path / "page.html", make_explanation())  # a file is no folder


def test_without_a_target_or_a_user_the_page_names_neither(make_explanation):
    shown = ExplainedItem("i8", "Silk rug")
    seen = Page(page(make_explanation(user="", target=None, shown=shown, candidates=make_explanation().candidates[:1])))
    assert "How the ranking for a history given by hand came about" in seen.text
    assert "The model reads this prompt for the candidate i8." in seen.text
    assert "Target" not in seen.text
    assert "Not ranked" not in seen.text
    assert "Events 7 History in blocks" in seen.text
