from __future__ import annotations

import json
import socket
import time

import pytest
import torch
from huggingface_hub import constants
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, LlamaModel

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone, load_backbone
from recbole_llmtrsr.llm.builtin import build_builtin, train_tokenizer
from recbole_llmtrsr.llm.loading.source import hub_fault

REMEDY = "use a folder that holds model and tokenizer, or `backbone: builtin`, which needs no download"
LLAMA = LlamaConfig(
    vocab_size=260, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
)


def test_a_saved_backbone_loads_with_the_same_weights_and_ids(tmp_path):
    built = build_builtin(
        ["a film"], hidden_size=16, n_layers=1, n_heads=2, vocab_size=260, seed=0, required_tokens=[" yes"]
    )
    built.lm.save_pretrained(tmp_path)
    built.tokenizer.save_pretrained(tmp_path)

    loaded = load_backbone(str(tmp_path), dtype=torch.float32)

    ids = loaded.tokenizer.encode("a film? yes")
    assert ids == built.tokenizer.encode("a film? yes")
    assert torch.equal(loaded.lm(torch.tensor([ids])).logits, built.lm(torch.tensor([ids])).logits)
    assert (loaded.name, loaded.attention, loaded.pad_id) == (str(tmp_path), "plain", 0)


def test_weights_come_in_the_number_format_asked_for(tmp_path):
    LlamaForCausalLM(LLAMA).save_pretrained(tmp_path)
    train_tokenizer(["a"]).save_pretrained(tmp_path)

    assert load_backbone(str(tmp_path), dtype=torch.bfloat16).transformer.dtype == torch.bfloat16


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(UserError) as error:
        load_backbone(f"{tmp_path}/nowhere", dtype=torch.float32)

    assert str(error.value) == f"backbone '{tmp_path}/nowhere' is not a folder: {REMEDY}"


def test_a_broken_config_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text("{", encoding="utf-8")

    with pytest.raises(UserError, match="its config cannot be loaded"):
        load_backbone(str(tmp_path), dtype=torch.float32)


@pytest.mark.parametrize(
    ("lm", "architecture"),
    [
        (lambda: LlamaModel(LLAMA), "LlamaModel"),
        (
            lambda: BertForMaskedLM(
                BertConfig(
                    vocab_size=260, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
                )
            ),
            "BertForMaskedLM",
        ),
    ],
)
def test_what_is_no_causal_language_model_is_an_error(tmp_path, lm, architecture):
    lm().save_pretrained(tmp_path)
    train_tokenizer(["a"]).save_pretrained(tmp_path)

    with pytest.raises(UserError, match=f"is {architecture}, not a causal language model: choose one"):
        load_backbone(str(tmp_path), dtype=torch.float32)


def test_code_that_comes_with_a_model_needs_consent(tmp_path):
    config = {"model_type": "homemade", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(UserError, match="comes with Python code: set `trust_remote_code: True`"):
        load_backbone(str(tmp_path), dtype=torch.float32)


def test_a_hub_name_without_network_fails_at_once_with_the_remedy(monkeypatch):
    with socket.socket() as taken:  # bound and never listening, so that connecting is refused at once
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # whatever the environment says
        start = time.perf_counter()
        with pytest.raises(UserError) as error:
            load_backbone("nobody/no-such-model", dtype=torch.float32)

    assert time.perf_counter() - start < 5
    text = str(error.value)
    assert text.startswith(
        f"backbone 'nobody/no-such-model' is neither a folder nor in the local cache, and {endpoint}"
    )
    assert text.endswith(f": {REMEDY}")


def test_offline_mode_is_believed(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert hub_fault() == "HF_HUB_OFFLINE is set"


def test_a_tokenizer_without_padding_pads_with_its_end_of_text_token():
    tokenizer = train_tokenizer(["a"])
    tokenizer.pad_token = None
    tokenizer.eos_token = "b"

    assert Backbone(LlamaForCausalLM(LLAMA), tokenizer, "x").pad_id == tokenizer.convert_tokens_to_ids("b")


def test_a_tokenizer_without_special_tokens_pads_with_id_0():
    tokenizer = train_tokenizer(["a"])
    tokenizer.pad_token = None

    assert Backbone(LlamaForCausalLM(LLAMA), tokenizer, "x").pad_id == 0
