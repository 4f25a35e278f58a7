"""An explanation of seven events in blocks of two, with every kind of trouble in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from recbole_llmtrsr.explain.explanation import ExplainedItem, ExplainedSection, Explanation
from recbole_llmtrsr.explain.ranking import ExplainedCandidate
from recbole_llmtrsr.summarizer.trace import TracedCall

LINES = ("Red kettle", "Blue kettle", "Green lamp", "White lamp", "Small desk", "Large desk", "Wool rug")
EXPLANATION = Explanation(
    dataset="tiny",
    model="LLMTRSR",
    user="u7",
    target=ExplainedItem("i9", "Oak chair"),
    history=tuple(ExplainedItem(f"i{n}", line) for n, line in enumerate(LINES, start=1)),
    n_recent=2,
    block_size=2,
    calls=(
        TracedCall(1, "block", LINES[0:2], (), "Likes kettles.", "stored", 21, 4, "stop"),
        TracedCall(2, "block", LINES[2:4], (), "Lamps lamps lamps lamps", "written", 22, 9, "length", ("cut_off",)),
        TracedCall(3, "block", LINES[4:6], (), "", "written", 23, 1, "stop"),
        TracedCall(4, "merge", (), (1, 2, 3), "Kettles, lamps.", "replaced"),
    ),
    result=4,
    summary="Kettles, lamps.",
    sections=(
        ExplainedSection("instruction", "Will the user choose it?\n", 6),
        ExplainedSection("summary header", "Taste:\n", 2),
        ExplainedSection("summary", "Kettles, la", 3, 3, "cut from 4 to 3 tokens"),
        ExplainedSection("recent header", "\nLast:\n", 3),
        ExplainedSection("recent items", "Large desk\nWool rug\n", 6, 7, "no room for 1 older recent items: i5"),
        ExplainedSection("candidate header", "Item:\n", 2),
        ExplainedSection("candidate", "Oak chair", 2, 8),
        ExplainedSection("answer slot", "\nAnswer:", 2),
    ),
    prompt_limit=30,
    candidates=(
        ExplainedCandidate("i8", "Silk rug", 0.0),
        ExplainedCandidate("i9", "Oak chair", 0.0, is_target=True),
        ExplainedCandidate("i10", "Iron stove", 2.0),
    ),
    options=(("summary", "hierarchical"), ("block_size", "2")),
)


@pytest.fixture
def make_explanation() -> Callable[..., Explanation]:
    """The explanation above, with some of it replaced."""

    def make(**changes: Any) -> Explanation:
        return replace(EXPLANATION, **changes)

    return make
