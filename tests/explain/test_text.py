from __future__ import annotations

from recbole_llmtrsr.explain.explanation import ExplainedItem
from recbole_llmtrsr.explain.ranking import ExplainedCandidate
from recbole_llmtrsr.explain.text import brief, columns, text

EXPECTED = """\
How the ranking for user u7 came about
======================================
target    i9 | Oak chair
rank      2.5 of 3, the mean over a random order of 2 candidates of equal score
data set  tiny
model     LLMTRSR
events    7 before the target

History in blocks of 2
----------------------
Oldest first; * marks recent items of the prompt.

Block 1
    1  i1 | Red kettle
    2  i2 | Blue kettle
  call 1, block, reads it alone; found in the store; 21 tokens read, 4 written; ended by itself
  > Likes kettles.

Block 2
    3  i3 | Green lamp
    4  i4 | White lamp
  call 2, block, reads it alone; written now; 22 tokens read, 9 written; cut off at the limit;
    fault: cut off
  > Lamps lamps lamps lamps

Block 3
    5  i5 | Small desk
    6* i6 | Large desk
  call 3, block, reads it alone; written now; 23 tokens read, 1 written; ended by itself
  > (empty: nothing to say)

Block 4
    7* i7 | Wool rug
  in no summary: all of it is among the recent items

From blocks to one summary
--------------------------
  call 4, merge, reads calls 1, 2, 3; replaced by the extractive writer
  > Kettles, lamps.

Preference summary
------------------
Kettles, lamps.

Prompt
------
As the model reads it for the target: 26 tokens and 1 for the answer, of at most 30. Room is always
kept for the longest candidate of the catalogue.

[instruction] 6 tokens
  | Will the user choose it?

[summary header] 2 tokens
  | Taste:

[summary] 3 of at most 3 tokens
  ! cut from 4 to 3 tokens
  | Kettles, la

[recent header] 3 tokens
  |
  | Last:

[recent items] 6 of at most 7 tokens
  ! no room for 1 older recent items: i5
  | Large desk
  | Wool rug

[candidate header] 2 tokens
  | Item:

[candidate] 2 of at most 8 tokens
  | Oak chair

[answer slot] 2 tokens
  |
  | Answer:

Candidates
----------
Candidates with equal scores share their mean rank over a random order (=).
   rank   P(yes)  log-odds
      1   0.8808    +2.000  i10 | Iron stove
    2.5=  0.5000    +0.000  i8 | Silk rug
    2.5=  0.5000    +0.000  TARGET  i9 | Oak chair

Options
-------
summary     hierarchical
block_size  2
"""


def test_the_text_in_full(make_explanation):
    assert text(make_explanation()) == EXPECTED


def test_no_line_is_wider_than_the_terminal_in_any_script(make_explanation):
    long = "\u6f22\u5b57" * 120 + " word" * 60 + " " + "x" * 250 + " \U0001f3b2" * 90 + " e\u0301" * 150
    items = tuple(ExplainedItem(f"i{n}", long) for n in range(3))
    written = text(make_explanation(history=items, target=items[0], user="y" * 300, calls=(), result=None))
    widths = [columns(line) for line in written.splitlines()]
    assert max(widths) <= 100
    assert sum(width > 90 for width in widths) > 20
    assert written.replace("\n", "").replace(" ", "").count("\u6f22\u5b57") == 480


def test_control_characters_do_not_reach_the_terminal(make_explanation):
    written = text(make_explanation(user="u\x1b[2J", summary="a\x1b]0;b\x07c"))
    assert set(written) & {chr(n) for n in (*range(10), *range(11, 32), 127, 155)} == set()
    assert "a ]0;b c" in written


def test_where_nothing_is_scored_it_says_why(make_explanation):
    written = text(make_explanation(sections=(), candidates=(), no_candidates="summaries only"))
    assert "rank      none\n" in written
    assert "No prompt was made: there is no model in this run.\n" in written
    assert "No scores: summaries only.\n" in written
    assert "* marks what a prompt shows item by item." in written


def test_without_summaries_there_are_no_blocks(make_explanation):
    written = text(make_explanation(block_size=None, calls=(), result=None, summary=None))
    assert "Summaries are off (summary: none).\n" in written
    assert "Block" not in written
    assert "From blocks" not in written


def test_candidates_beyond_the_shown_ones_are_counted_and_the_target_is_not_among_them(make_explanation):
    many = tuple(ExplainedCandidate(f"c{n}", "", -n, is_target=n == 777) for n in range(1000))
    written = text(make_explanation(candidates=many))
    assert "\n    778   0.0000  -777.000  TARGET  c777 |\n" in written
    assert "\n799 more candidates are not shown.\n" in written


def test_without_a_target_the_shown_candidate_is_named(make_explanation):
    shown = ExplainedItem("i8", "Silk rug")
    written = text(make_explanation(user="", target=None, shown=shown, candidates=make_explanation().candidates[:1]))
    assert written.startswith(
        "How the ranking for a history given by hand came about\n"
        "======================================================\n"
        "data set  tiny\nmodel     LLMTRSR\nevents    7\n"
    )
    assert "As the model reads it for the candidate i8: 26 tokens" in written
    assert "TARGET" not in written


BRIEF = """\
explanation of user u7: the target (>) is Oak chair, rank 2.5 of 3
  history: 7 events, of which the prompt shows the last 2 one by one
  summary: Kettles, lamps.
  prompt:  26 tokens of at most 30
       1  P(yes) 0.8808  log-odds +2.000  Iron stove
     2.5  P(yes) 0.5000  log-odds +0.000  Silk rug
  >  2.5  P(yes) 0.5000  log-odds +0.000  Oak chair"""


def test_the_screen_has_the_explanation_in_few_lines(make_explanation):
    assert brief(make_explanation(), 80) == BRIEF
    narrow = brief(make_explanation(summary="\x1b[2J" + "lamps " * 50), 60).splitlines()
    assert max(map(columns, narrow)) <= 60
    assert narrow[2].endswith("...")
    assert "\x1b" not in narrow[2]
