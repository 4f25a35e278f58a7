from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from recbole_llmtrsr.llm.generators import measure
from recbole_llmtrsr.llm.generators.generation import MeasuredSpeed
from recbole_llmtrsr.llm.generators.measure import measure_speed
from recbole_llmtrsr.llm.generators.places import Answer

READ, STEP = 0.01, 0.5  # seconds of a prompt token, and of a step whatever the number of rows


class Model:
    """Reads and writes on a clock of its own; a row ``[n, ...]`` has an answer of n tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)

    def decode(self, _: Any, rows: Mapping[int, Sequence[int]], n_places: int, limit: int) -> Iterator[Answer]:
        assert len(rows) <= n_places
        self.now += READ * sum(map(len, rows.values()))
        lengths = {position: min(row[0], limit) for position, row in rows.items()}
        self.now += STEP * (max(lengths.values()) - 1)
        for position, length in lengths.items():
            yield Answer(position, [0] * length, 0.0)


def row(length: int, n_new: int) -> list[int]:
    return [n_new] * length


def test_reading_is_measured_on_the_rows_writing_on_a_full_batch_and_length_on_whole_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [row(100, 20), row(60, 30), row(40, 10)]
    speed = measure_speed(Model(monkeypatch).decode, None, rows, 8, 160)  # type: ignore[arg-type]
    assert (speed.seconds_per_prompt_token, speed.seconds_per_new_token) == pytest.approx((READ, STEP / 8))
    assert speed.new_tokens == 20


def test_answers_that_take_long_are_cut_and_their_length_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 seconds are 40 steps: 10 + 39 + 40 + 40 tokens, and one of three ends.
    rows = [row(50, 60), row(40, 80), row(30, 10), row(20, 39)]
    speed = measure_speed(Model(monkeypatch).decode, None, rows, 4, 160)  # type: ignore[arg-type]
    assert speed.new_tokens == pytest.approx((40 + 40 + 10 + 39) / 2)
    none_ends = measure_speed(Model(monkeypatch).decode, None, rows[:2], 2, 100)  # type: ignore[arg-type]
    assert none_ends.new_tokens == pytest.approx(80)


@pytest.mark.parametrize("limit", [1, 2])
def test_answers_of_a_token_or_two_have_a_speed(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    speed = measure_speed(Model(monkeypatch).decode, None, [row(9, 5), row(7, 1)], 2, limit)  # type: ignore[arg-type]
    assert isinstance(speed, MeasuredSpeed)
    assert speed.seconds_per_new_token > 0
    assert speed.new_tokens == (1 if limit == 1 else 1.5)
