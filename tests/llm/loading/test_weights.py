"""Weights that do not fit their architecture are refused by every door, with what is wrong and the remedy."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import load_backbone
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.embeddings.text_vectors import text_vectors
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.llm.loading.source import ModelSource

SIZE = {
    "vocab_size": 260, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
Weights = dict[str, torch.Tensor]
FP32 = torch.float32
CPU = torch.device("cpu")


def saved(folder: Path, model: Any = None, **config: Any) -> Path:
    """A folder with a model, a tokenizer, and options of the config changed behind the weights' back."""
    torch.manual_seed(0)
    (model or LlamaForCausalLM(LlamaConfig(**SIZE))).save_pretrained(folder)
    train_tokenizer(["a"]).save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return folder


def changed(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    weights = {key: weight.clone() for key, weight in change(load_file(folder / "model.safetensors")).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + key: weight for key, weight in weights.items()}


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: weight for key, weight in weights.items() if part not in key}


def filled(part: str, value: float) -> Callable[[Weights], Weights]:
    def fill(weights: Weights) -> Weights:
        for key, weight in weights.items():
            if part in key:
                weight[-1] = value if value else weight[-1]
                weight.mul_(1.0 if value else 0.0)
        return weights

    return fill


def backbone(folder: Path) -> Any:
    return load_backbone(str(folder), dtype=FP32).lm


def quantized(folder: Path) -> Any:
    return load_backbone(str(folder), dtype=FP32, load_in="4bit", device=CPU).lm


def summarizer(folder: Path) -> Any:
    return list(TransformersGenerator(str(folder), dtype=FP32, device="cpu").generate(["a"], 2))


def text_encoder(folder: Path, role: str = "text_encoder") -> Any:
    return text_vectors(
        role, str(folder), ["an oak chair", "a desk"], folder=folder / "vectors", device=CPU, dtype=FP32,
        max_tokens=9, show_progress=False,
    )  # fmt: skip


def text_init(folder: Path) -> Any:
    return text_encoder(folder, "text_init")


DOORS = [
    backbone,
    summarizer,
    text_encoder,
    text_init,
    pytest.param(quantized, marks=pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="no bitsandbytes")),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod."])
def test_a_prefix_before_all_names_is_refused_and_named(tmp_path: Path, door: Any, prefix: str) -> None:
    folder = changed(saved(tmp_path), prefixed(prefix))

    with pytest.raises(
        UserError, match=rf"not in the file, and 21 of the file \('{prefix}lm_head.weight'\) are not in"
    ) as error:
        door(folder)
    assert f"strip the prefix '{prefix}' from the keys of the file" in str(error.value)
    assert str(error.value).startswith(("backbone '", "summarizer '", "text_encoder '", "text_init '"))

    changed(folder, lambda weights: {key.removeprefix(prefix): weight for key, weight in weights.items()})
    door(folder)


@pytest.mark.parametrize("door", [backbone, text_encoder])
@pytest.mark.parametrize("wrapper", ["_orig_mod.", "_checkpoint_wrapped_module."])
def test_a_wrapper_around_every_layer_is_named(tmp_path: Path, door: Any, wrapper: str) -> None:
    folder = changed(
        saved(tmp_path),
        lambda weights: {re.sub(r"(layers\.\d\.)", rf"\1{wrapper}", key): weight for key, weight in weights.items()},
    )
    with pytest.raises(UserError, match=f"strip the prefix '{wrapper}' from the keys of the file"):
        door(folder)


def test_weights_of_another_kind_of_model_are_no_wrapped_ones(tmp_path: Path) -> None:
    folder = saved(tmp_path, BertForMaskedLM(BertConfig(**SIZE)), model_type="roberta")
    with pytest.raises(UserError, match=r"are not in the model: save the complete model with its config.json again"):
        text_encoder(folder)


@pytest.mark.parametrize("name", ["_orig_mod.", ""])
def test_names_are_checked_before_any_weight_is_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed(saved(tmp_path), prefixed(name))
    source = ModelSource.find("backbone", str(folder))
    config, _ = source.load_tokenizer()
    monkeypatch.setattr(torch, "aminmax", lambda *_: pytest.fail("a weight is read"))
    with pytest.raises(UserError, match="strip the prefix '_orig_mod") if name else nullcontext():
        source.check_names(config, torch.float32)


@pytest.mark.parametrize("door", DOORS)
def test_a_layer_that_the_file_lacks_is_refused(tmp_path: Path, door: Any) -> None:
    folder = changed(saved(tmp_path), without("layers.1."))

    with pytest.raises(
        UserError, match=r"9 of its \d+ weights \('(model.)?layers.1.input_.*\) are not in .*: save the complete model"
    ):
        door(folder)


@pytest.mark.parametrize("door", DOORS)
def test_a_layer_that_the_config_forgets_is_refused(tmp_path: Path, door: Any) -> None:
    with pytest.raises(UserError, match=r"9 weights of the file \('(model.)?layers.1.input.*config.json that belongs"):
        door(saved(tmp_path, num_hidden_layers=1))


@pytest.mark.parametrize("door", DOORS)
def test_a_config_of_another_architecture_is_refused(tmp_path: Path, door: Any) -> None:
    as_llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    with pytest.raises(
        UserError, match=r"6 weights of the file \('(model.)?layers.0.self_attn.k_proj.bias'\) are not in"
    ):
        door(saved(tmp_path, Qwen2ForCausalLM(Qwen2Config(**SIZE, num_key_value_heads=2)), **as_llama))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused(tmp_path: Path, door: Any, value: float) -> None:
    folder = changed(saved(tmp_path), filled("layers.1.input_layernorm", value))

    with pytest.raises(UserError, match=r"input_layernorm.weight' holds values that are not finite: download"):
        door(folder)


@pytest.mark.parametrize("door", DOORS)
def test_an_embedding_of_zeros_is_refused(tmp_path: Path, door: Any) -> None:
    with pytest.raises(UserError, match=r"embed_tokens.weight' is all zeros"):
        door(changed(saved(tmp_path), filled("embed_tokens", 0.0)))


@pytest.mark.parametrize("door", [backbone, summarizer])
def test_a_missing_head_is_refused_and_the_remedy_works(tmp_path: Path, door: Any) -> None:
    folder = changed(saved(tmp_path), without("lm_head"))

    with pytest.raises(
        UserError, match=r"1 of its 21 weights \('lm_head.weight'\) is not in the file: set `tie_word_embeddings: true`"
    ):
        door(folder)
    door(saved(tmp_path, tie_word_embeddings=True))


def test_adapter_layers_inside_of_the_file_are_to_be_merged(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    folder = saved(tmp_path)
    adapted = get_peft_model(backbone(folder), LoraConfig(target_modules=["q_proj"]))
    save_file(
        {key: weight.clone() for key, weight in adapted.state_dict().items()}, folder / "model.safetensors",
        metadata={"format": "pt"},
    )  # fmt: skip

    with pytest.raises(UserError, match="merge the adapter into the weights"):
        backbone(folder)


@pytest.mark.parametrize(
    "model",
    [
        LlamaForCausalLM(LlamaConfig(**{**SIZE, "tie_word_embeddings": True})),
        GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=16, n_layer=1, n_head=2)),
    ],
)
@pytest.mark.parametrize("door", [backbone, text_encoder])
def test_tied_heads_and_buffers_of_old_releases_are_sound(
    tmp_path: Path, door: Any, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(
        saved(tmp_path, model),
        lambda weights: {
            **weights,
            "transformer.h.0.attn.masked_bias": torch.ones(1),
            "transformer.h.0.attn.bias": torch.ones(1),
            "model.layers.0.self_attn.rotary_emb.cos_cached": torch.ones(4),
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
            "model.layers.version": torch.ones(1),  # as OPT's decoder has it
            "score.weight": torch.ones(2, 16),
        },
    )
    with caplog.at_level(logging.ERROR):
        door(folder)
    assert not caplog.records


def test_of_an_encoder_with_a_decoder_the_encoder_reads(tmp_path: Path) -> None:
    size = {"vocab_size": 260, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2}
    assert text_encoder(saved(tmp_path, T5ForConditionalGeneration(T5Config(**size)))).shape == (2, 16)


def test_an_encoder_alone_needs_no_decoder_but_all_of_itself(tmp_path: Path) -> None:
    size = {"vocab_size": 260, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2}
    folder = saved(tmp_path, T5EncoderModel(T5Config(**size)))
    assert text_encoder(folder).shape == (2, 16)
    with pytest.raises(UserError, match=r"not in the file"):
        text_encoder(changed(folder, without("encoder.block.0.layer.0.SelfAttention.q")))


@pytest.mark.parametrize("door", [backbone, text_encoder])
def test_a_layer_that_predicts_further_tokens_is_sound_and_one_more_is_not(tmp_path: Path, door: Any) -> None:
    door(saved(tmp_path / "sound", num_hidden_layers=1, num_nextn_predict_layers=1))
    three = LlamaForCausalLM(LlamaConfig(**{**SIZE, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"9 weights of the file \('(model.)?layers.2.input"):
        door(saved(tmp_path / "other", three, num_hidden_layers=1, num_nextn_predict_layers=1))


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_an_encoder_may_lack_a_pooler_and_bring_a_head(tmp_path: Path, kind: Any) -> None:
    text_encoder(saved(tmp_path, kind(BertConfig(**SIZE))))


def test_a_body_without_its_head_is_an_encoder(tmp_path: Path) -> None:
    folder = saved(tmp_path / "lm")
    ModelSource.find("text_encoder", str(folder)).load_encoder(FP32).save_pretrained(tmp_path / "body")
    train_tokenizer(["a"]).save_pretrained(tmp_path / "body")

    assert text_encoder(tmp_path / "body").shape == (2, 64)
