from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmtrsr.engine.operations import OperationCosts, Work, full_logits_work, plain_work, shared_prefix_work
from recbole_llmtrsr.llm.lora import apply_lora

# Hidden size 32, 4 heads of 8, 2 layers; per layer: query and output 32 x 32, key and value 32 x 16 (two key heads),
# gate, up and down 32 x 48.
LLAMA_PER_TOKEN = 2 * 2 * (2 * 1024 + 2 * 512 + 3 * 1536)


def test_a_gated_decoder_with_grouped_heads_costs_twice_its_linear_weights(tiny):
    assert LLAMA_PER_TOKEN == 30_720
    assert OperationCosts.of(tiny("llama")) == OperationCosts(per_token=30_720, per_pair=256, per_logit=64)


def test_a_decoder_without_a_gate_and_with_transposed_weights_is_counted_alike(tiny):
    # query, key and value 32 x 96, output 32 x 32, up and down 32 x 128; 2 layers
    assert OperationCosts.of(tiny("gpt2")) == OperationCosts(per_token=49_152, per_pair=256, per_logit=64)


def test_projections_around_the_layers_count_and_the_head_is_as_wide_as_its_input(tiny):
    # 4 times 32 x 32 and twice 32 x 48 in 2 layers, embeddings of 16 projected to 32 and back
    assert OperationCosts.of(tiny("opt")) == OperationCosts(per_token=30_720, per_pair=256, per_logit=32)


def test_a_head_size_of_its_own_is_read_from_the_config(tiny):
    backbone = tiny("qwen3")
    backbone.transformer.config.head_dim = 16

    assert OperationCosts.of(backbone).per_pair == 512


def test_lora_adds_its_low_rank_layers(tiny):
    backbone = tiny("llama")
    apply_lora(backbone, rank=2, alpha=4, dropout=0.0, target_modules=["q_proj", "v_proj"])

    # query 32 x 2 and 2 x 32, value 32 x 2 and 2 x 16; 2 layers
    assert OperationCosts.of(backbone).per_token == LLAMA_PER_TOKEN + 2 * 2 * (128 + 96)


def test_a_weight_that_no_linear_layer_holds_is_refused_by_name(tiny):
    backbone = tiny("llama")
    backbone.decoder.layers[0].experts = nn.ParameterDict({"up": nn.Parameter(torch.zeros(2, 3, 4))})

    with pytest.raises(ValueError, match=r"layers\.0\.experts\.up \(one of 1\) belongs to no linear layer"):
        OperationCosts.of(backbone)


def test_operations_are_work_times_costs():
    costs = OperationCosts(per_token=1000, per_pair=10, per_logit=3)

    assert costs.operations(Work(tokens=2, pairs=5, logits=7)) == 2071
    assert costs.operations(Work()) == 0


def test_work_adds_up_and_multiplies():
    assert Work(1, 2, 3) + Work(10, 20, 30) == Work(11, 22, 33)
    assert Work(1, 2, 3) * 4 == Work(4, 8, 12)


def test_a_shared_prefix_is_read_once_and_seen_by_every_candidate():
    # 4 tokens: 10 pairs; a candidate of 2: 8 on the prefix and 3 on itself; one of 3: 12 and 6
    assert shared_prefix_work(4, [2, 3]) == Work(tokens=9, pairs=39, logits=4)


def test_one_candidate_behind_a_prefix_is_a_plain_row():
    assert shared_prefix_work(7, [3]) == plain_work(1, 10) == Work(tokens=10, pairs=55, logits=2)


def test_plain_rows_count_their_padding_and_either_the_causal_half_or_all_pairs():
    assert plain_work(3, 4) == Work(tokens=12, pairs=30, logits=6)
    assert plain_work(3, 4, dense=True) == Work(tokens=12, pairs=48, logits=6)


def test_rows_of_a_fixed_width_have_logits_at_every_position_or_at_one():
    assert full_logits_work(2, 100, 4) == Work(tokens=8, pairs=20, logits=800)
    assert full_logits_work(2, 100, 4, all_positions=False, dense=True) == Work(tokens=8, pairs=32, logits=200)
    assert full_logits_work(1, 10) == Work(tokens=2048, pairs=2_098_176, logits=20_480)
