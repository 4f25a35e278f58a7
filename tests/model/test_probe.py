from __future__ import annotations

import logging

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.prefix_attention import SHARED_PREFIX, shared_prefix_attention
from recbole_llmtrsr.model.probe import probe
from recbole_llmtrsr.model.rows import plain_rows
from recbole_llmtrsr.model.scoring import score_plain

YES, NO = 5, 6


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3", "gpt_neox"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_exact_backbone_gets_shared_prefix_attention(tiny, architecture, dtype):
    backbone = tiny(architecture).to(dtype).train()

    assert probe(backbone, YES, NO) is None

    assert backbone.attention == "shared_prefix"
    assert backbone.training


def test_a_backbone_that_cannot_is_scored_plainly_and_says_so(tiny, caplog):
    backbone = tiny("gemma2")
    rows = plain_rows([[20, 30, 40]], [[[80], [81, 82]]], 0)
    before = score_plain(backbone, rows, YES, NO, 2)

    with caplog.at_level(logging.WARNING):
        reason = probe(backbone, YES, NO)

    assert reason == "NotImplementedError: shared-prefix attention does not compute softcap"
    assert backbone.attention == "plain"
    assert "'gemma2' scores every candidate with its own prompt" in caplog.text
    assert reason in caplog.text
    torch.testing.assert_close(score_plain(backbone, rows, YES, NO, 2), before)


def test_slots_that_see_each_other_are_found_out(tiny, monkeypatch):
    def leaky(module, query, key, value, attention_mask, shared_prefix=None, **kwargs):
        return shared_prefix_attention(module, query, key, value, None if shared_prefix else attention_mask, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, SHARED_PREFIX, leaky)
    backbone = tiny("llama")

    assert "its shared-prefix scores differ from plain ones by" in probe(backbone, YES, NO)
    assert backbone.attention == "plain"


def test_an_output_head_that_is_not_linear_is_an_error_with_a_remedy(tiny):
    backbone = tiny("llama")
    backbone.lm.lm_head.register_forward_hook(lambda module, args, output: output**3)

    with pytest.raises(UserError, match=r"'llama': its logits are not hidden states times output head.*`backbone: bu"):
        probe(backbone, YES, NO)


def test_probing_draws_nothing_from_the_global_generator(tiny):
    backbone = tiny("llama")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)

    probe(backbone, YES, NO)

    assert torch.equal(torch.rand(1), expected)
