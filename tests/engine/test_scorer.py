from __future__ import annotations

import logging
from itertools import chain

import numpy as np
import pytest
import torch

from recbole_llmtrsr.engine.attention.prefix_attention import BACKENDS, SHARED_PREFIX
from recbole_llmtrsr.engine.rows import GroupedPrompts, plain_rows
from recbole_llmtrsr.engine.scorer import Scorer
from recbole_llmtrsr.engine.scoring import score_plain
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.errors import UserError

YES, NO = 5, 6
EVERYTHING = 10**6


def scorer(backbone, attention="split", max_tokens=EVERYTHING):
    backbone.transformer.set_attn_implementation(SHARED_PREFIX if attention in BACKENDS else "eager")
    backbone.attention = attention
    return Scorer(backbone, YES, NO, TokenBudget(max_tokens, backbone.device, "evaluation"))


@torch.no_grad()
def expected_scores(backbone, prefixes, candidates):
    backbone.transformer.set_attn_implementation("eager")
    return score_plain(backbone, plain_rows(GroupedPrompts(prefixes, candidates), 0), YES, NO, batch_size=1)


def calls_of(backbone, limit=EVERYTHING, error=None):
    """The token ids of every call of the decoder that succeeds; those with more than `limit` tokens fail."""
    calls = []

    def record(module, args, kwargs):
        if kwargs["input_ids"].numel() > limit:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        calls.append(kwargs["input_ids"].tolist())

    backbone.decoder.register_forward_pre_hook(record, with_kwargs=True)
    return calls


def sizes(calls):
    return [sum(map(len, rows)) for rows in calls]


@pytest.mark.parametrize("attention", [*BACKENDS, "cached_prefix", "plain"])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2", "gpt_oss"])
def test_no_budget_changes_a_score(tiny, prompts, architecture, attention):
    backbone = tiny(architecture)
    given = prompts([11, 6, 1, 0, 8], [[3, 5, 1, 6], [], [2], [3, 5, 1], [7, 7]])
    expected = expected_scores(backbone, *given)

    assert expected[expected.isfinite()].std() > 0.05  # otherwise equal scores would mean little
    for max_tokens in (EVERYTHING, 40, 17, 1):
        scores = scorer(backbone, attention, max_tokens).scores(GroupedPrompts(*given))
        torch.testing.assert_close(scores, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("attention", ["flash", "cached_prefix", "plain"])
def test_the_order_of_histories_and_candidates_moves_scores_along(tiny, prompts, attention):
    backbone = tiny("llama")
    prefixes, candidates = prompts([11, 4, 8], [[3, 5, 1], [4, 2, 2], [7, 7, 1]])

    scores = scorer(backbone, attention, 30).scores(GroupedPrompts(prefixes, candidates))
    turned = scorer(backbone, attention, 30).scores(
        GroupedPrompts(prefixes[::-1], [own[::-1] for own in candidates[::-1]])
    )

    torch.testing.assert_close(turned.flip(0, 1), scores, atol=1e-5, rtol=0)


def test_arrays_are_scored_like_lists_and_prefixes_may_differ_in_type(tiny, prompts):
    prefixes, candidates = prompts([11, 4], [[3, 5], [4]])
    given = [np.array(prefix) for prefix in prefixes], [[np.array(x) for x in own] for own in candidates]

    for max_tokens in (EVERYTHING, 1):
        judge = scorer(tiny("llama"), "split", max_tokens)
        torch.testing.assert_close(
            judge.scores(GroupedPrompts(*given)), judge.scores(GroupedPrompts(prefixes, candidates))
        )


def test_scores_are_float32_without_gradients_and_dummies_rank_last(tiny, prompts):
    backbone = tiny("llama").to(torch.bfloat16)

    scores = scorer(backbone).scores(GroupedPrompts(*prompts([3, 3], [[1, 2], [2]])))

    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    assert scores.isneginf().tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize(
    ("prefixes", "candidates", "message"),
    [([[1]], [], "1 prefixes but 0 lists"), ([[1]], [[]], "no candidate"), ([[1]], [[[]]], "has no tokens")],
)
@pytest.mark.parametrize("attention", ["flash", "cached_prefix", "plain"])
def test_faulty_sections_are_refused_before_anything_is_read(tiny, attention, prefixes, candidates, message):
    with pytest.raises(ValueError, match=message):
        scorer(tiny("llama"), attention).scores(GroupedPrompts(prefixes, candidates))


@pytest.mark.parametrize("attention", [*BACKENDS, "plain"])
@pytest.mark.parametrize("max_tokens", [20, 33, 64])
def test_no_pass_has_more_tokens_than_the_budget(tiny, prompts, attention, max_tokens):
    backbone = tiny("llama")
    given = prompts([11, 6, 4, 8, 13], [[3, 5, 1, 6], [1], [4, 2], [7, 7], [3] * 30])
    calls = calls_of(backbone)

    scorer(backbone, attention, max_tokens).scores(GroupedPrompts(*given))

    assert max(sizes(calls)) <= max_tokens


def test_histories_of_like_length_share_a_pass_the_longest_first(tiny, prompts):
    backbone = tiny("llama")
    calls = calls_of(backbone)
    prefixes, candidates = prompts([4, 11, 8, 5], [[1, 2], [3, 5], [7, 6], [1, 1]])  # 7, 19, 21, 7 tokens

    scorer(backbone, "split", 40).scores(GroupedPrompts(prefixes, candidates))

    assert sizes(calls) == [40, 14]
    assert calls[0][0] == [*prefixes[2], *prefixes[1], *chain(*candidates[2], *candidates[1])]


@pytest.mark.parametrize("attention", BACKENDS)
def test_a_history_above_the_budget_reads_its_prefix_once(tiny, prompts, attention):
    backbone = tiny("llama")
    calls = calls_of(backbone)
    (prefix,), (candidates,) = prompts([10], [[3, 5, 1, 4]])

    scorer(backbone, attention, 14).scores(GroupedPrompts([prefix], [candidates]))

    assert calls == [[[*prefix, *candidates[2], *candidates[0]]], [[*candidates[3], *candidates[1]]]]


@pytest.mark.parametrize("attention", ["flash", "split"])
def test_hundreds_of_candidates_pass_a_budgetful_at_a_time(tiny, prompts, attention):
    backbone = tiny("llama")
    calls = calls_of(backbone)
    given = prompts([30], [[1 + i % 5 for i in range(400)]])  # 30 + 1200 tokens

    scores = scorer(backbone, attention, 50).scores(GroupedPrompts(*given))

    assert sum(sizes(calls)) == 1230
    assert max(sizes(calls)) <= 50
    torch.testing.assert_close(scores, expected_scores(backbone, *given), atol=2e-5, rtol=0)


def test_a_prefix_above_the_budget_passes_with_a_single_candidate(tiny, prompts):
    backbone = tiny("llama")
    calls = calls_of(backbone)

    scorer(backbone, "split", 4).scores(GroupedPrompts(*prompts([10], [[3, 1, 2, 2]])))

    assert sizes(calls) == [11, 4, 3]


ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity ..."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GiB)"),
}


@pytest.mark.parametrize(("attention", "error"), [*(("flash", name) for name in ERRORS), ("plain", "cuda")])
def test_when_memory_runs_out_it_goes_on_with_half_and_the_same_scores(tiny, prompts, caplog, attention, error):
    backbone = tiny("llama")
    given = prompts([11, 6, 4, 8], [[3, 5, 1, 6], [1], [4, 2], [7, 7]])  # shared: 26 + 7 + 10 + 22 tokens
    expected = expected_scores(backbone, *given)
    calls = calls_of(backbone, limit=20, error=ERRORS[error])
    judge = scorer(backbone, attention, 200)

    with caplog.at_level(logging.WARNING):
        scores = judge.scores(GroupedPrompts(*given))

    torch.testing.assert_close(scores, expected, atol=2e-5, rtol=0)
    assert max(sizes(calls)) <= 20
    assert judge.budget.halved == len(caplog.records) > 0
    assert judge.budget.max_tokens <= 20
    assert caplog.records[-1].getMessage().endswith(f"(set max_tokens_per_batch: {judge.budget.max_tokens})")


def test_the_budget_is_halved_once_per_failure_and_what_was_scored_is_not_scored_again(tiny, prompts, caplog):
    backbone = tiny("llama")
    calls = calls_of(backbone, limit=25)
    judge = scorer(backbone, "split", 30)

    with caplog.at_level(logging.WARNING):
        judge.scores(
            GroupedPrompts(*prompts([9, 9, 9], [[7], [7], [3, 2]]))
        )  # 16, 16 and 14 tokens: 16 | 16 + 14 | ...

    assert [record.getMessage() for record in caplog.records] == [
        "evaluation is out of memory with 30 tokens at a time: continuing with 15 (set max_tokens_per_batch: 15)"
    ]
    assert sizes(calls) == [16, 16, 14]


def test_the_budget_learned_holds_for_the_next_call(tiny, prompts, caplog):
    backbone = tiny("llama")
    calls_of(backbone, limit=25)
    judge = scorer(backbone)
    given = prompts([9, 9, 9], [[7], [7], [3, 2]])
    judge.scores(GroupedPrompts(*given))
    caplog.clear()

    with caplog.at_level(logging.WARNING):
        judge.scores(GroupedPrompts(*given))

    assert not caplog.records
    assert judge.budget.halved == 1


def test_memory_may_run_out_in_a_later_chunk(tiny, prompts):
    backbone = tiny("llama")
    given = prompts([4], [[1, 7, 7, 7]])
    expected = expected_scores(backbone, *given)
    calls = calls_of(backbone, limit=13)
    judge = scorer(backbone, "split", 14)

    scores = judge.scores(GroupedPrompts(*given))

    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert sizes(calls) == [12, 5, 7, 7, 7]  # the first was of the pass that failed
    assert judge.budget.halved == 1


@pytest.mark.parametrize(("attention", "least"), [("flash", 10), ("cached_prefix", 15), ("plain", 15)])
def test_when_a_single_candidate_does_not_fit_it_gives_up_with_remedies(tiny, prompts, attention, least):
    backbone = tiny("llama")
    calls_of(backbone, limit=5)

    with pytest.raises(
        UserError, match=f"out of memory with {least} tokens, which cannot be divided: lower max_prompt_tok"
    ):
        scorer(backbone, attention).scores(GroupedPrompts(*prompts([9], [[6, 1]])))


def test_real_exhaustion_of_a_cpus_memory_counts(tiny, prompts):
    backbone = tiny("llama")
    decoder, given = backbone.decoder, prompts([9, 9], [[7], [7]])
    expected = expected_scores(backbone, *given)

    def exhaust(module, args, kwargs):
        if kwargs["input_ids"].numel() > 20:
            torch.empty(2**50, dtype=torch.uint8)

    decoder.register_forward_pre_hook(exhaust, with_kwargs=True)
    judge = scorer(backbone)

    torch.testing.assert_close(judge.scores(GroupedPrompts(*given)), expected, atol=1e-5, rtol=0)
    assert judge.budget.halved == 1


@pytest.mark.parametrize("attention", ["flash", "cached_prefix", "plain"])
def test_other_errors_pass_through_at_once(tiny, prompts, attention):
    backbone = tiny("llama")
    calls = calls_of(backbone, limit=0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    judge = scorer(backbone, attention)

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        judge.scores(GroupedPrompts(*prompts([9, 9], [[7], [7]])))

    assert not calls
    assert (judge.budget.halved, judge.budget.max_tokens) == (0, EVERYTHING)
