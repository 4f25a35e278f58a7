from __future__ import annotations

import logging

import pytest
import torch

from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("given", "device", "expected"), [(None, CPU, 4096), (None, GPU, 32768), (100, CPU, 100), (100, GPU, 100)]
)
def test_the_bound_is_the_one_given_or_suits_the_device(given, device, expected):
    budget = TokenBudget(given, device, "evaluation")

    assert (budget.max_tokens, budget.halved) == (expected, 0)


@pytest.mark.parametrize(
    ("bound", "tried", "expected"),
    [
        (1000, 701, 350),
        (1000, 9000, 500),  # of a history read in chunks, no more than the bound was tried
        (100, 60, 30),  # less than the least
    ],
)
def test_it_goes_on_with_half_of_what_was_tried_and_says_how_to_begin_there(bound, tried, expected, caplog):
    budget = TokenBudget(bound, CPU, "evaluation")

    with caplog.at_level(logging.WARNING):
        budget.halve(tried=tried, least=50)

    assert (budget.max_tokens, budget.halved) == (expected, 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"evaluation is out of memory with {min(tried, bound)} tokens at a time: continuing with {expected}"
        f" (set max_tokens_per_batch: {expected})"
    ]


def test_a_single_candidate_above_the_bound_is_what_was_tried():
    budget = TokenBudget(10, CPU, "evaluation")

    with pytest.raises(UserError, match="out of memory with 50 tokens, which cannot be divided"):
        budget.halve(tried=9000, least=50)


@pytest.mark.parametrize("stage", ["evaluation", "training"])
def test_when_nothing_is_left_to_divide_it_gives_up_with_remedies_of_the_stage(stage, caplog):
    budget = TokenBudget(100, CPU, stage)

    with caplog.at_level(logging.WARNING), pytest.raises(UserError) as raised:
        budget.halve(tried=50, least=50)

    message = str(raised.value)
    assert message.startswith(
        f"{stage} is out of memory with 50 tokens, which cannot be divided: lower max_prompt_tokens, choose a smaller"
        " backbone, or set precision: bf16, load_in: 4bit"
    )
    assert message.endswith(", gradient_checkpointing: True or fewer negatives") == (stage == "training")
    assert (budget.max_tokens, budget.halved) == (100, 0)
    assert not caplog.records
