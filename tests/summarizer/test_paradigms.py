"""Plan and execution give each history what the paradigms of the paper give it on its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.histories import Histories
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.summarizer.jobs import Job, Kind
from recbole_llmtrsr.summarizer.paradigms import blocks_of, hierarchical, recurrent

CATALOGUE = ItemText.from_rows(["title"], {letter: [letter.upper()] for letter in "abcd"}, labels=False)
TOKENS = ["[PAD]", *CATALOGUE.items]
LIMITS = st.none() | st.integers(2, 5)


@st.composite
def several_histories(draw: st.DrawFn) -> Histories:
    """Prefixes of users, some of whom begin as another one does; a prefix can come twice."""
    users: list[list[int]] = []
    for _ in range(draw(st.integers(1, 4))):
        other = draw(st.sampled_from([[], *users]))
        shared = other[: draw(st.integers(0, len(other)))]
        users.append(shared + draw(st.lists(st.integers(1, 4), max_size=20)))
    begin = np.cumsum([0, *map(len, users)])
    user = np.array(draw(st.lists(st.integers(0, len(users) - 1), max_size=12)), dtype=np.int64)
    length = np.array([draw(st.integers(0, len(users[i]))) for i in user], dtype=np.int64)
    items = np.array([item for events in users for item in events], dtype=np.int64)
    return Histories(items, begin[user], begin[user] + length, items)


OPTIONS = st.fixed_dictionaries(
    {
        "block_size": st.integers(1, 6),
        "max_blocks": st.none() | st.integers(1, 5),
        "summarize_remainder": st.sampled_from(["yes", "no"]),
        "merge_fan_in": LIMITS,
        "max_depth": LIMITS,
    }
)


@pytest.fixture
def make_lossy(make_echo: Any) -> Any:
    class LossyWriter(make_echo):  # type: ignore[misc]
        """Writes one of 16 texts, so that different calls often read the same."""

        def _answer(self, job: Job) -> Any:
            answer = super()._answer(job)
            return type(answer)(hashlib.sha256(answer.text.encode()).hexdigest()[0])

    return LossyWriter


@pytest.mark.parametrize("writer", ["make_echo", "make_lossy"])
@pytest.mark.parametrize("paradigm", ["hierarchical", "recurrent"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=several_histories(), options=OPTIONS)
def test_plan_and_execution_equal_the_paradigm_on_each_history(
    paradigm: str, writer: str, histories: Histories, options: Any, request: Any, summarize_histories: Any
) -> None:
    make_writer = request.getfixturevalue(writer)
    together, alone = make_writer(), make_writer()
    result = summarize_histories(histories, CATALOGUE, together, SummarySettings(summary=paradigm, **options))

    def write(kind: Kind, block: Any = (), inputs: tuple[str, ...] = ()) -> str:
        ((_, answer),) = next(alone.run([Job(kind, tuple(CATALOGUE[TOKENS[i]] for i in block), inputs)]))
        return answer.text

    summarize = paradigm_of(paradigm, options)
    size, most, remainder = options["block_size"], options["max_blocks"], options["summarize_remainder"] == "yes"
    summaries = {
        i: summarize(blocks_of(histories[i].tolist(), size, most, remainder), write) or ""
        for i in range(len(histories))
    }
    assert result.summaries == summaries
    # The writer makes each call once, whether the plan shares it or the texts that it reads turn out equal.
    assert sorted(together.jobs) == sorted(set(alone.jobs))
    assert result.report["calls_unshared"] == len(alone.jobs)
    if writer == "make_echo":
        assert result.report["calls"] == len(set(alone.jobs))


def paradigm_of(name: str, options: Any) -> Callable[..., str | None]:
    limits = {"fan_in": options["merge_fan_in"], "max_depth": options["max_depth"]}
    return recurrent if name == "recurrent" else partial(hierarchical, **limits)


@given(st.text("abcd", max_size=30), LIMITS, LIMITS)
def test_hierarchical_merges_level_by_level(blocks: str, fan_in: int | None, max_depth: int | None) -> None:
    def write(kind: Kind, block: str = "", inputs: tuple[str, ...] = ()) -> str:
        return block or f"({' '.join(inputs)})"

    level, depth = list(blocks), 1
    while len(level) > 1:
        depth += 1
        size = len(level) if fan_in is None or depth == max_depth else fan_in
        groups = [level[start : start + size] for start in range(0, len(level), size)]
        level = [write("merge", inputs=tuple(group)) if len(group) > 1 else group[0] for group in groups]
    assert hierarchical(blocks, write, fan_in, max_depth) == (level[0] if level else None)


@given(st.text("abcd", max_size=30), st.integers(1, 7))
def test_blocks_hold_the_history_in_order(history: str, size: int) -> None:
    blocks = blocks_of(history, size)
    assert "".join(blocks) == history
    assert [len(block) for block in blocks[:-1]] == [size] * max(0, len(blocks) - 1)
    full = blocks_of(history, size, with_remainder=False)
    assert full == [block for block in blocks if len(block) == size]
    assert blocks_of(history, size, max_blocks=2) == blocks[-2:]
