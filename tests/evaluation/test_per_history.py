from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.per_history import metric_names, per_history, read_per_history, write_per_history


def tiny(**changes) -> pd.DataFrame:
    arguments = {
        "users": ["007", "1e5"],
        "n_events": [12, 3],
        "targets": ["i1", "NA"],
        "values": {"recall@3": [1.0, 0.0], "mrr@3": [1 / 3, 0.0]},
        "ranks": [3.0, 17.5],
        "n_candidates": [21, 21],
        "n_positives": [1, 2],
        "features": {"target_popularity": [0, 7], "prompt_trimmed": [True, False]},
        **changes,
    }
    return per_history(**arguments)


FILE = """\
"user_id","n_events","target","n_candidates","n_positives","rank","recall@3","mrr@3","target_popularity",\
"target_words","prompt_trimmed"
"007",12,"i1",21,1,3.0,1.0,0.3333333333333333,0,"",True
"1e5",3,"NA",21,2,17.5,0.0,0.0,7,"",False
"""


def test_a_table_has_a_line_per_history(tmp_path):
    write_per_history(tmp_path / "a" / "t.csv", tiny())
    assert (tmp_path / "a" / "t.csv").read_text() == FILE


def test_metrics_are_the_columns_between_rank_and_features():
    assert metric_names(tiny()) == ["recall@3", "mrr@3"]


@pytest.mark.parametrize(
    "user", ["007", "1e5", "NA", "nan", "", " a ", 'say "hi", twice', "Ærø", "True", "a\nb", "a\rb", "1_0"]
)
def test_a_user_and_a_target_stay_what_they_are(tmp_path, user):
    write_per_history(tmp_path / "t.csv", tiny(users=[user, "b"], targets=["x", user]))
    again = read_per_history(tmp_path / "t.csv")
    assert again["user_id"].tolist() == [user, "b"]
    assert again["target"].tolist() == ["x", user]


def test_a_table_is_read_as_it_was_written_to_the_last_bit(tmp_path):
    generator = np.random.default_rng(0)
    values = generator.random(500) * 10.0 ** generator.integers(-20, 3, 500)
    table = per_history(
        [f"u{i}" for i in range(500)],
        np.arange(500),
        ["t"] * 500,
        {"mrr@10": values, "gauc": np.where(values > 1, math.nan, values)},
        values + 1,
        np.full(500, 21),
        np.ones(500, dtype=int),
        {
            "target_popularity": np.arange(500),
            "target_words": [None if i % 3 else i for i in range(500)],
            "prompt_trimmed": [None if i % 2 else bool(i % 4) for i in range(500)],
        },
    )
    write_per_history(tmp_path / "t.csv", table)
    again = read_per_history(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert again["gauc"].isna().any()


def test_a_table_without_rows_is_read_again(tmp_path):
    empty = tiny(users=[], n_events=[], targets=[], values={"mrr@3": []}, ranks=[], n_candidates=[], n_positives=[],
                 features={})  # fmt: skip
    write_per_history(tmp_path / "t.csv", empty)
    pd.testing.assert_frame_equal(read_per_history(tmp_path / "t.csv"), empty)


def test_what_is_unknown_is_empty_not_0():
    table = tiny(features={"target_words": None, "target_popularity": [None, 2]})
    assert table["target_words"].isna().all()
    assert table["target_popularity"].isna().tolist() == [True, False]
    assert table["prompt_trimmed"].isna().all()


def test_columns_of_other_lengths_and_names_are_refused():
    with pytest.raises(ValueError, match="one value per history, but have the lengths .*'rank': 1"):
        tiny(ranks=[1.0])
    with pytest.raises(ValueError, match=re.escape("features ['colour'] are unknown")):
        tiny(features={"colour": [1, 2]})
    with pytest.raises(ValueError, match=re.escape("metrics ['rank'] have the names of other columns")):
        tiny(values={"rank": [1, 2]})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("user_id,n_events\n1,2\n", "it lacks the columns target, n_candidates"),
        (FILE.replace("12", "twelve"), "has a value that is neither a number"),
        (FILE.replace("True", "yes"), "a number nor True or False \\('yes'"),
        ("", "cannot be read as a per-history table"),
    ],
)
def test_another_file_is_refused(tmp_path, content, fault):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=fault):
        read_per_history(tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"none.csv cannot be read"):
        read_per_history(tmp_path / "none.csv")
