from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from recbole_llmtrsr.engine.attention.prefix_attention import BACKENDS, SHARED_PREFIX
from recbole_llmtrsr.engine.rows import GroupedPrompts, plain_rows
from recbole_llmtrsr.engine.scoring import HeadScale, answer_log_odds, score_plain, scores_with_gradients

WEIGHT = torch.tensor([[9.0, 9.0], [1.0, 2.0], [0.5, -1.0]])
BIAS = torch.tensor([9.0, 0.25, 1.0])
HIDDEN = torch.tensor([[1.0, 1.0], [2.0, 0.0]])


def test_the_score_is_the_difference_of_the_two_answer_logits():
    assert answer_log_odds(HIDDEN, WEIGHT, None, yes_id=1, no_id=2).tolist() == [3.5, 1.0]
    assert answer_log_odds(HIDDEN, WEIGHT, BIAS, yes_id=1, no_id=2).tolist() == [2.75, 0.25]


def test_a_scale_and_a_softcap_apply_to_each_logit():
    scaled = answer_log_odds(HIDDEN[:1], WEIGHT, None, 1, 2, HeadScale(scale=0.5))
    capped = answer_log_odds(HIDDEN[:1], WEIGHT, None, 1, 2, HeadScale(softcap=2.0))

    assert scaled.tolist() == [1.75]
    assert capped.item() == pytest.approx(2 * 0.905148 - 2 * -0.244919, abs=1e-5)  # tanh(1.5), tanh(-0.25)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_states_are_multiplied_in_float32(autocast):
    hidden = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)
    weight = torch.tensor([[256.0, 1.0], [255.0, 1.0]], dtype=torch.bfloat16)  # 257 does not exist in bfloat16

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        score = answer_log_odds(hidden, weight, None, yes_id=0, no_id=1)

    assert score.dtype == torch.float32
    assert score.item() == 1.0


@pytest.mark.parametrize(
    "architecture", ["llama", "gpt2", "opt", "bert", "gpt_neox", "phi", "gemma2", "gemma3", "granite", "cohere"]
)
@torch.no_grad()
def test_two_rows_of_the_head_give_what_all_logits_give(tiny, architecture):
    backbone = tiny(architecture)
    prompts = [[20, 30, 40, 50], [60, 70]]

    scores = score_plain(backbone, plain_rows(GroupedPrompts(prompts, [[[80]], [[90, 91, 92]]]), 0), 5, 6, batch_size=8)

    for score, ids in zip(scores[:, 0], ([20, 30, 40, 50, 80], [60, 70, 90, 91, 92])):
        logits = backbone.lm(torch.tensor([ids])).logits[0, -1]
        assert abs(logits[5] - logits[6]) > 1e-3
        torch.testing.assert_close(score, logits[5] - logits[6], atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
@torch.no_grad()
def test_the_batch_size_changes_no_plain_score_and_dummies_rank_last(tiny, batch_size):
    backbone = tiny("llama")
    rows = plain_rows(GroupedPrompts([[20, 30, 40], [60]], [[[80], [81, 82]], [[90]]]), 0)

    scores = score_plain(backbone, rows, 5, 6, batch_size)

    torch.testing.assert_close(scores, score_plain(backbone, rows, 5, 6, batch_size=3), atol=1e-5, rtol=0)
    assert scores.isneginf().tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, HeadScale(1.0, None)),
        ({"logit_scale": 0.25}, HeadScale(0.25, None)),
        ({"logits_scaling": 4.0}, HeadScale(0.25, None)),
        ({"logit_scale": None, "logits_scaling": None, "final_logit_softcapping": 30.0}, HeadScale(1.0, 30.0)),
    ],
)
def test_the_scale_of_a_head_is_read_from_the_config(config, expected):
    assert HeadScale.of(SimpleNamespace(**config)) == expected


@pytest.mark.parametrize("attention", ["flash", "split", "cached_prefix", "plain"])
def test_scores_to_learn_from_are_plain_scores_with_gradients_whatever_the_attention(tiny, ragged, attention):
    backbone = tiny("gemma2")
    with torch.no_grad():
        expected = score_plain(backbone, plain_rows(GroupedPrompts(*ragged), 0), 5, 6, batch_size=8)
    backbone.attention = attention
    if attention in BACKENDS:
        backbone.transformer.set_attn_implementation(SHARED_PREFIX)

    scores = scores_with_gradients(backbone, GroupedPrompts(*ragged), 5, 6)

    torch.testing.assert_close(scores.detach(), expected, atol=1e-5, rtol=0)
    scores[expected.isfinite()].sum().backward()
    assert backbone.output_head.weight.grad[[5, 6]].abs().max() > 0


@pytest.mark.parametrize("attention", ["split", "plain"])
def test_the_output_head_itself_is_never_run(tiny, ragged, attention):
    backbone = tiny("llama")
    backbone.output_head.register_forward_hook(lambda *_: pytest.fail("logits of the whole vocabulary"))
    backbone.transformer.set_attn_implementation(SHARED_PREFIX)
    backbone.attention = attention

    scores_with_gradients(backbone, GroupedPrompts(*ragged), 5, 6)
