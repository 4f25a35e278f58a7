from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recbole_llmtrsr.engine.meter import Meter, separate_rows_work, shared_rows_work, training_costs
from recbole_llmtrsr.engine.operations import OperationCosts, Work, plain_work
from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.llm.lora import apply_lora

FORWARD = OperationCosts(per_token=30_720, per_pair=256, per_logit=64)  # of the tiny llama


def test_training_all_weights_takes_three_forward_passes(tiny):
    assert training_costs(FORWARD, tiny("llama")) == OperationCosts(per_token=92_160, per_pair=768, per_logit=192)


def test_a_frozen_base_takes_two_and_its_low_rank_layers_three(tiny):
    backbone = tiny("llama")
    apply_lora(backbone, rank=2, alpha=4, dropout=0.0, target_modules=["q_proj", "v_proj"])

    # query 32 x 2 and 2 x 32, value 32 x 2 and 2 x 16, in 2 layers: 448 weights, 896 operations a token
    forward = OperationCosts.of(backbone)
    assert forward.per_token == 30_720 + 896
    assert training_costs(forward, backbone) == OperationCosts(2 * 30_720 + 3 * 896, per_pair=768, per_logit=128)


@pytest.mark.parametrize("lora", [False, True])
def test_the_rule_counts_the_products_that_a_training_step_really_runs(tiny, lora):
    backbone = tiny("gpt2")
    backbone.transformer.set_attn_implementation("eager")  # computes all pairs, in products that can be counted
    if lora:
        apply_lora(backbone, rank=2, alpha=4, dropout=0.0)
        backbone.transformer.enable_input_require_grads()  # gradients reach the lowest layer, as the rule has it
    meter = Meter(backbone)
    meter.count("train", plain_work(3, 5, dense=True), 3, 3)

    with FlopCounterMode(display=False) as counter:
        hidden = backbone.decoder(input_ids=torch.arange(15).view(3, 5), use_cache=False).last_hidden_state
        F.linear(hidden[:, -1], backbone.output_head.weight[[7, 8]]).sum().backward()

    assert meter.totals()["operations"] == counter.get_total_flops() > 0


def test_stages_are_counted_apart_and_summed_at_their_own_price(tiny):
    meter = Meter(tiny("llama"))
    meter.count("train", Work(tokens=10, pairs=55, logits=2), 1, 1)
    meter.count("evaluation", Work(tokens=9, pairs=39, logits=4), 1, 2)
    meter.count("evaluation", Work(tokens=1, pairs=1, logits=0), 1, 0)

    assert meter.tokens == {"train": 10, "evaluation": 10}
    train, evaluation = 10 * 92_160 + 55 * 768 + 2 * 192, 10 * 30_720 + 40 * 256 + 4 * 64
    assert (train, evaluation) == (964_224, 317_696)
    assert meter.totals() == {"tokens": 20, "histories": 3, "candidates": 3, "operations": 1_281_920}


def test_before_any_work_everything_is_zero(tiny):
    assert Meter(tiny("llama")).totals() == {"tokens": 0, "histories": 0, "candidates": 0, "operations": 0}


def test_operations_that_cannot_be_counted_are_left_out_with_the_reason(tiny):
    backbone = tiny("llama")
    backbone.decoder.layers[0].experts = nn.ParameterDict({"up": nn.Parameter(torch.zeros(2, 3, 4))})
    meter = Meter(backbone)
    meter.count("evaluation", Work(tokens=9, pairs=39, logits=4), 1, 2)

    assert meter.totals() == {"tokens": 9, "histories": 1, "candidates": 2}
    assert meter.not_counted is not None
    assert "layers.0.experts.up" in meter.not_counted


PREFIXES, CANDIDATES = [[1, 2, 3, 4], [5]], [[[6, 7], [8, 9, 10]], [[11]]]


def test_candidates_that_share_a_prefix_read_it_once():
    # 4 + 2 + 3 tokens with 10 + 11 + 18 pairs, and 1 + 1 with 1 + 2
    assert shared_rows_work(GroupedPrompts(PREFIXES, CANDIDATES)) == Work(tokens=11, pairs=42, logits=6)


def test_separate_rows_read_it_each_and_hold_no_padding():
    # rows of 6, 7 and 2 tokens with 21, 28 and 3 pairs
    assert separate_rows_work(GroupedPrompts(PREFIXES, CANDIDATES)) == Work(tokens=15, pairs=52, logits=6)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bloom", "mamba2", "rwkv", "gpt_oss", "deepseek_v3"])
def test_what_cannot_be_counted_says_why_and_ends_no_run(tiny, architecture):
    meter = Meter(tiny(architecture))

    assert (
        ("operations" in meter.totals()) == (meter.not_counted is None) == (architecture in ("llama", "gpt2", "bloom"))
    )
