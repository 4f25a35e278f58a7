from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmtrsr.config.candidate_modes import CandidateMode, candidate_mode, impression_faults
from recbole_llmtrsr.errors import UserError


@pytest.mark.parametrize(
    ("text", "mode", "is_drawn"),
    [
        ("uni20", CandidateMode("uni20", "uniform", 20), True),
        ("uni020", CandidateMode("uni20", "uniform", 20), True),
        ("pop1", CandidateMode("pop1", "popularity", 1), True),
        ("cat5", CandidateMode("cat5", "category", 5), True),
        ("impressions", CandidateMode("impressions", "impressions"), False),
        ("file:a b/ours.jsonl", CandidateMode("file:a b/ours.jsonl", "file", path=Path("a b/ours.jsonl")), False),
    ],
)
def test_a_mode_tells_where_candidates_come_from(text, mode, is_drawn):
    assert candidate_mode(text) == mode
    assert mode.is_drawn is is_drawn


def test_what_ranks_everything_or_nothing_has_no_candidate_sets():
    assert [candidate_mode(text) for text in ("full", "labeled")] == [None, None]


@pytest.mark.parametrize("text", ["uni", "uni2x", "xuni2", "file:", "impression", "Full", ""])
def test_any_other_mode_is_refused_with_those_there_are(text):
    with pytest.raises(UserError, match=rf"^eval_args mode must be uni<n>.*impressions, file:<path>.*got '{text}'$"):
        candidate_mode(text)


@pytest.mark.parametrize("text", ["uni0", "pop0", "cat0"])
def test_a_target_needs_something_to_be_ranked_against(text):
    with pytest.raises(
        UserError, match=f"mode '{text}' has no negatives to rank the target against: use at least {text[:3]}1"
    ):
        candidate_mode(text)


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}, {"TS": [0.8, 0.1, 0.1]}])
def test_impressions_need_a_split_by_user(split):
    (fault,) = impression_faults(split, ["uni20", "impressions"])
    assert fault.startswith("impressions (in eval_args mode, also_test or train_on) need a split by user")
    assert fault.endswith(f"got the split {split}: set eval_args: {{split: {{US: [0.8, 0.1, 0.1]}}}}")
    assert impression_faults(split, ["uni20", "file:impressions.npz", "targets", "full"]) == []
    assert impression_faults({"US": [0.8, 0.1, 0.1]}, ["uni20", "impressions"]) == []


def test_files_split_beforehand_are_no_split_by_user():
    (fault,) = impression_faults({"US": [0.8, 0.1, 0.1]}, ["impressions"], is_presplit=True)
    assert fault.endswith(
        "got the files of benchmark_filename: set eval_args: {split: {US: [0.8, 0.1, 0.1]}}"
        " and remove benchmark_filename"
    )
