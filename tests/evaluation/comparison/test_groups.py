from __future__ import annotations

import pandas as pd

from recbole_llmtrsr.evaluation.comparison.groups import Group, prompt_groups, shared_groups


def table(n_events: list[int], popularity: list[int | None], words: list[int | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n_events": n_events,
            "target_popularity": pd.Series(popularity, dtype="Int64"),
            "target_words": pd.Series(words, dtype="Int64"),
        }
    )


def members(groups: list[Group], kind: str) -> dict[str, list[int]]:
    return {group.name: group.rows.nonzero()[0].tolist() for group in groups if group.kind == kind}


def test_histories_are_grouped_by_length():
    lengths = [1, 5, 6, 10, 11, 20, 21, 50, 51, 900]
    groups = shared_groups(table(lengths, [1] * 10, [1] * 10))
    assert members(groups, "history length") == {
        "1-5 events": [0, 1],
        "6-10 events": [2, 3],
        "11-20 events": [4, 5],
        "21-50 events": [6, 7],
        "51+ events": [8, 9],
    }


def test_targets_are_grouped_by_popularity_and_one_that_training_never_saw_is_cold():
    popularity = [0, 1, 4, 5, 19, 20, 99, 100, None, 0]
    groups = shared_groups(table([0] * 10, popularity, [1] * 10))
    assert members(groups, "target popularity") == {
        "cold": [0, 9],
        "1-4 events": [1, 2],
        "5-19 events": [3, 4],
        "20-99 events": [5, 6],
        "100+ events": [7],
        "unknown": [8],
    }
    assert members(groups, "history length") == {"0 events": list(range(10))}


def test_texts_are_grouped_in_thirds_with_their_bounds():
    words = [3, 9, 4, 8, 5, 7, None]
    assert members(shared_groups(table([1] * 7, [1] * 7, words)), "target text") == {
        "0-4 words": [0, 2],
        "5-7 words": [4, 5],
        "8+ words": [1, 3],
        "unknown": [6],
    }


def test_texts_of_one_length_are_one_group():
    assert members(shared_groups(table([1] * 3, [1] * 3, [6, 6, 6])), "target text") == {"6+ words": [0, 1, 2]}


def test_without_texts_there_are_no_groups_of_texts():
    assert members(shared_groups(table([1], [1], [None])), "target text") == {}


def test_every_row_is_in_one_group_of_a_kind():
    words = [None, 0, 1, 2, 3, 3, 3, 3, 50, 2]
    groups = shared_groups(table(list(range(0, 100, 10)), [0, None, *range(8)], words))
    for kind in ("history length", "target popularity", "target text"):
        assert sorted(i for rows in members(groups, kind).values() for i in rows) == list(range(10))


def test_prompts_are_grouped_where_there_are_any():
    trimmed = pd.Series([True, False, None, False], dtype="boolean")
    assert members(prompt_groups(trimmed), "prompt") == {"whole": [1, 3], "trimmed": [0], "unknown": [2]}
    assert prompt_groups(pd.Series([None, None], dtype="boolean")) == []
    assert members(prompt_groups(pd.Series([False], dtype="boolean")), "prompt") == {"whole": [0]}
