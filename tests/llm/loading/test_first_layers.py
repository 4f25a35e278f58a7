"""A backbone of k layers is the model whose further layers are cut off, wherever it is read, trained or saved."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_gguf import tokenizer, write_gguf
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MiniCPM3Config,
    MiniCPM3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.engine.exactness import choose_attention
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.run_file import differences
from recbole_llmtrsr.llm.backbone import load_backbone
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.llm.lora import apply_lora

FP32 = torch.float32
N_ALL, K = 4, 2
YES, NO = 5, 6
IDS = torch.randint(1, 260, (2, 24), generator=torch.Generator().manual_seed(3))
NO_ENDS = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
LIKE_LLAMA = {
    "vocab_size": len(tokenizer()), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": N_ALL,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, **NO_ENDS,
}  # fmt: skip
LIKE_GPT2 = {"vocab_size": LIKE_LLAMA["vocab_size"], **NO_ENDS}
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LIKE_LLAMA)),
    # The last two layers have sliding windows, in which the first two must not turn.
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**LIKE_LLAMA, use_sliding_window=True, sliding_window=8, max_window_layers=2)
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**LIKE_GPT2, n_embd=32, n_layer=N_ALL, n_head=2, n_positions=2048)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(**{name: value for name, value in LIKE_LLAMA.items() if name != "num_key_value_heads"})
    ),
    "gpt_neo": lambda: GPTNeoForCausalLM(
        GPTNeoConfig(
            **LIKE_GPT2, hidden_size=32, num_layers=N_ALL, num_heads=2, attention_types=[[["global", "local"], 2]],
            window_size=8,
        )
    ),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**LIKE_LLAMA, head_dim=16, sliding_window=8)),
    "smollm3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**LIKE_LLAMA, no_rope_layers=[1, 0, 1, 0])),
}  # fmt: skip
LAYERS = {"gpt2": "transformer.h", "gpt_neo": "transformer.h", "gpt_neox": "gpt_neox.layers"}


def saved(folder: Path, kind: str = "llama") -> str:
    torch.manual_seed(0)
    model = KINDS[kind]()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def cut_by_hand(model: PreTrainedModel, kind: str = "llama") -> PreTrainedModel:
    del model.get_submodule(LAYERS.get(kind, "model.layers"))[K:]
    model.config.use_cache = False  # some make one of as many layers as the config says
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
def test_first_layers_score_as_the_model_cut_by_hand_and_are_saved_as_such(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path / "all", kind)
    cut = load_backbone(folder, dtype=FP32, n_layers=K)
    whole = AutoModelForCausalLM.from_pretrained(folder)
    expected = logits(cut_by_hand(AutoModelForCausalLM.from_pretrained(folder), kind))
    torch.testing.assert_close(logits(cut.lm), expected)
    assert (expected - logits(whole)).abs().max() > 0.01
    assert cut.config.num_hidden_layers == K

    cut.lm.save_pretrained(tmp_path / "cut")
    tokenizer().save_pretrained(tmp_path / "cut")
    for again in (
        AutoModelForCausalLM.from_pretrained(tmp_path / "cut"),
        load_backbone(str(tmp_path / "cut"), dtype=FP32).lm,
    ):
        torch.testing.assert_close(logits(again), expected)
    source = ModelSource.find("backbone", folder, n_layers=K)
    source.check_names(source.load_tokenizer()[0], torch.float32)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("attention", ["flash", "split", "cached_prefix", "plain"])
def test_every_back_end_is_exact_on_them_with_lora(tmp_path: Path, kind: str, attention: Any) -> None:
    backbone = load_backbone(saved(tmp_path, kind), dtype=FP32, n_layers=K)
    apply_lora(backbone, 2, 4, 0.0)
    assert choose_attention(backbone, YES, NO, attention) == {}  # an inexact one would be an error
    assert backbone.attention == attention
    n_adapted = {name.split(".layers.")[-1].split(".h.")[-1].split(".")[0] for name, _ in backbone.lm.named_parameters()
                 if "lora_A" in name}  # fmt: skip
    assert n_adapted == {"0", "1"}


def test_all_layers_are_kept_by_default_and_if_asked_for(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    assert torch.equal(logits(load_backbone(folder, dtype=FP32, n_layers=N_ALL).lm), logits(
        load_backbone(folder, dtype=FP32).lm
    ))  # fmt: skip


def test_of_a_gguf_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(saved(tmp_path / "folder"))
    file = write_gguf(tmp_path / "model.gguf", model)
    expected = logits(cut_by_hand(model))
    assert (logits(load_backbone(str(file), dtype=FP32, n_layers=K).lm) - expected).abs().max() < 1e-4


def test_an_adapter_in_the_folder_is_merged_into_the_layers_that_remain(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    )
    adapted.save_pretrained(folder)
    expected = logits(cut_by_hand(adapted.merge_and_unload()))
    torch.testing.assert_close(logits(load_backbone(folder, dtype=FP32, n_layers=K).lm), expected)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("load_in", ["8bit", "4bit"])
def test_their_weights_can_be_quantized(tmp_path: Path, load_in: str) -> None:
    folder = saved(tmp_path / "all")
    cut_by_hand(AutoModelForCausalLM.from_pretrained(folder)).save_pretrained(tmp_path / "by_hand")
    by_hand = tmp_path / "by_hand" / "config.json"
    by_hand.write_text(by_hand.read_text().replace(f'"num_hidden_layers": {N_ALL}', f'"num_hidden_layers": {K}'))
    tokenizer().save_pretrained(tmp_path / "by_hand")
    cut, expected = (
        load_backbone(name, dtype=FP32, load_in=load_in, n_layers=n_layers)
        for name, n_layers in ((folder, K), (str(tmp_path / "by_hand"), None))
    )
    torch.testing.assert_close(logits(cut.lm), logits(expected.lm))


def test_more_layers_than_there_are_is_refused_before_the_weights_are_read(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    with pytest.raises(UserError) as fault:
        ModelSource.find("backbone", folder, n_layers=5).load_tokenizer()
    assert str(fault.value) == (
        f"backbone_layers: 5 exceeds the number of layers of backbone '{folder}' (4): set it to 4 or less, or to ~ for"
        " all"
    )


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (
            lambda: MiniCPM3ForCausalLM(
                MiniCPM3Config(
                    **{**LIKE_LLAMA, "num_key_value_heads": 4}, q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8,
                    qk_rope_head_dim=8, v_head_dim=16, scale_depth=1.4,
                )
            ),
            r"'model\.layers\.0\.residual_scale' depends on the number of layers",
        ),
        (
            lambda: BartForCausalLM(
                BartConfig(**LIKE_GPT2, d_model=32, encoder_layers=N_ALL, decoder_layers=N_ALL, decoder_ffn_dim=64)
            ),
            "all of its layers remain",
        ),
    ],
)  # fmt: skip
def test_layers_that_depend_on_the_number_of_layers_are_refused(tmp_path: Path, model: Any, fault: str) -> None:
    model().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"cannot keep the first layers of .* as they are \({fault}\): set"):
        ModelSource.find("backbone", str(tmp_path), n_layers=K).load_tokenizer()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone_layers": 0, "backbone": "smollm2"}, "backbone_layers must be >= 1, got 0"),
        (
            {"backbone_layers": 2},
            "backbone_layers: 2 keeps the first layers of a pretrained backbone, and backbone is builtin: set"
            " builtin_n_layers: 2 instead, or choose another backbone",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as fault:
        Settings.from_options(options)
    assert str(fault.value) == message


def test_another_number_of_layers_is_another_model_which_is_neither_resumed_nor_pooled_with_other_seeds() -> None:
    assert differences({"LLMTRSR": {"backbone_layers": 12}}, {"LLMTRSR": {"backbone_layers": 6}}) == [
        "LLMTRSR began with backbone_layers: 12, not 6"
    ]
    assert not [kind for kind in ("free", "seed", "place") if "backbone_layers" in options_of(kind)]


def test_missing_and_unknown_weights_of_the_layers_that_remain_are_still_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"mlp_bias": false', '"mlp_bias": true'))
    with pytest.raises(UserError, match=r"6 of its 27 weights \('model\.layers\.0\.mlp\.down_proj\.bias'\)"):
        load_backbone(folder, dtype=FP32, n_layers=K)
